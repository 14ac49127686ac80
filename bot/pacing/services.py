"""Services available to pacing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.approvals.services import ApprovalServices
from bot.commands.services import later

if TYPE_CHECKING:
    from bot.pacing.auto_resume import Continuing
    from bot.pacing.ports import DrawPort
    from bot.pacing.runaway_guard import Breaker
    from bot.pacing.service import PaceService


@dataclass(kw_only=True, slots=True)
class PacingServices(ApprovalServices):
    """Services for approvals, plus windows."""

    pace: PaceService = field(default_factory=later("pace"))
    """Windows and their even-spread lines."""
    continuing: Continuing = field(default_factory=later("continuing"))
    """Continuation of agents that stopped at a limit."""
    runaway: Breaker = field(default_factory=later("runaway"))
    """Guard that pauses agents that spend without a visible result."""
    assignment: DrawPort = field(default_factory=later("assignment"))
    """Resolver of the windows that an agent draws on."""
