"""Services available to code about agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from bot.agents.service import Agents
from bot.agents.watch import Watches
from bot.commands.services import later
from bot.config.reloaded import Reloaded
from bot.tasks.services import TaskServices
from fleet.supervision.health_findings import HealthFinding


@dataclass(kw_only=True, slots=True)
class AgentServices(TaskServices):
    """The services of tasks, and agents."""

    agents: Agents = field(default_factory=later("agents"))
    watches: Watches = field(default_factory=later("watches"))
    """Messages that show an agent's state and are kept up to date."""
    reload: Callable[[], Awaitable[Reloaded]] = field(default_factory=later("reload"))
    """Reads muster.yaml again, applies the changes that can be applied, and informs the egress."""
    drift: Callable[[], Awaitable[Sequence[HealthFinding]]] = field(default_factory=later("drift"))
    """Returns the differences between the roster and the running agents."""
