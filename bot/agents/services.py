"""What has to do with agents can call upon."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.commands.services import later
from bot.tasks.services import TaskServices

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bot.agents.service import Agents
    from bot.agents.watch import Watches
    from bot.config.reloaded import Reloaded
    from fleet.supervision.health_findings import HealthFinding


@dataclass(kw_only=True, slots=True)
class AgentServices(TaskServices):
    """What tasks have, and agents."""

    agents: Agents = field(default_factory=later("agents"))
    watches: Watches = field(default_factory=later("watches"))
    """Messages that show how an agent is."""
    reload: Callable[[], Awaitable[Reloaded]] = field(default_factory=later("reload"))
    """Reads muster.yaml again, takes up what can be, and tells the egress."""
    drift: Callable[[], Awaitable[Sequence[HealthFinding]]] = field(default_factory=later("drift"))
    """Where the roster and the agents that run differ."""
