"""Services available to code about issues of a forge."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.commands.services import later
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.ports import IntakePort, OrdersPort, RoundsPort
from bot.projects.services import ProjectServices


@dataclass(kw_only=True, slots=True)
class IssueServices(ProjectServices):
    """The services of topics, and the forge."""

    forge: ForgeLink | None = None
    """None: muster.yaml names no forge."""
    rounds: RoundsPort = field(default_factory=later("rounds"))
    """Plays the rounds of runs; there only with a forge."""
    intake: IntakePort = field(default_factory=later("intake"))
    """Handles what the forge told; there only with a forge."""
    orders: OrdersPort = field(default_factory=later("orders"))
    """Acts on orders; there only with a forge."""
