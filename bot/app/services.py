"""What a command, a job or a door can call upon. `bot.app.wiring` makes them; they are handed over as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from bot.commands.syntax import CHAT
from bot.interfaces.chat.duplicate_events import Overlap
from bot.messaging.bridge import Bridge
from bot.text.errors import UserError
from bot.text.iso_timestamps import timestamp
from connectors.contract.messages import Capabilities

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from bot.auth.permissions import Operators
    from bot.commands.context import Origin
    from bot.commands.registry import CommandTable
    from bot.interfaces.api.event_stream import EventHub
    from database.engine.store import Store


class HealthSource(Protocol):
    """Who can say how a part of Muster is, in the shape that ``health --json`` prints."""

    async def __call__(self) -> Mapping[str, Any]: ...


def _cannot(connector: str) -> Capabilities:
    del connector
    return Capabilities()


def _no_room(origin: Origin | None) -> tuple[str, str]:
    if origin is None:
        raise UserError("There is no room for an agent's thread: name a fleet room in muster.yaml.")
    return origin.connector, origin.parent or origin.conversation


async def _no_words(source: str) -> Sequence[str]:
    del source
    return ()


@dataclass(kw_only=True, slots=True)
class Services:
    """Everything that acts. Filled while starting, in the order of the stages, and then left alone; what a test does
    not need stays None."""

    clock: Callable[[], float]
    """Seconds since the epoch."""
    store: Store
    table: CommandTable
    operators: Operators
    events: EventHub
    version: str = "0"
    started_at: float = 0.0
    health: HealthSource | None = None
    """``connectors``, ``egress``, ``register``, ``jobs``, ``agents`` of ``health``; what is missing is unknown."""
    complete: Callable[[str], Awaitable[Sequence[str]]] = _no_words
    """The words that can follow, by source: ``agents``, ``runtimes``."""
    redact: Any = str
    """From a text to what may leave of it (core.redaction.SecretMasker)."""
    timestamp: Callable[[float | None], str | None] = timestamp
    """RFC 3339 in UTC."""
    capabilities: Callable[[str], Capabilities] = _cannot
    """What the connector of that name can do; nothing when there is none."""
    main_room: Callable[[Origin | None], tuple[str, str]] = _no_room
    """Connector and conversation in which an agent's thread is opened, by where its launch was asked for."""
    bridge: Bridge = field(default_factory=Bridge)
    """Which rooms mirror each other."""
    overlap: Overlap = field(default_factory=Overlap)
    """Which connectors may read the same."""
    settings: Any = None
    """What muster.yaml says (bot.config.loader.Settings); another value once it is taken up anew
    (bot.app.config_reload)."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Where references to secrets are looked up."""
    paths: Any = None
    delivery: Any = None
    agents: Any = None
    planner: Any = None
    """What agents would be started as (fleet.launch.launch_plan.Planner)."""
    watches: Any = None
    lookout: Any = None
    conversations: Any = None
    outlet: Any = None
    """The egress as this process knows it (bot.egress_client.client.EgressClient)."""
    pace: Any = None
    """Windows and their even-spread lines (bot.pacing.service.PaceService)."""
    dispatcher: Any = None
    """Hands tasks to agents (scheduler.dispatch.dispatch_loop.Dispatcher)."""
    continuing: Any = None
    """Has agents go on that stopped at a limit (bot.pacing.auto_resume.Continuing)."""
    settling: Any = None
    """Counts and tells what ended tasks came to (bot.tasks.settlement.Settling)."""
    task_steps: Any = None
    """What becomes of tasks that agents have (bot.tasks.state_machine.TaskSteps)."""
    runaway: Any = None
    """Pauses agents that spend with nothing to show for it (bot.pacing.runaway_guard.Breaker)."""
    questions: Any = None
    """What is asked of operators besides permissions (bot.approvals.questions.Questions)."""
    reports: Any = None
    """What is posted at times (bot.reports.poster.Reports)."""
    jobs: Any = None
    """What is done at times (scheduler.jobs.Jobs); jobs can be put and dropped while it runs."""
    terminal: Any = None
    """The terminal connector, which ``GET /v1/terminal`` attaches to; None when it is not configured."""
    terminals: Mapping[str, Any] = field(default_factory=dict)
    """By its name, every connector that clients of ``GET /v1/terminal`` can attach to: terminals, and tmux."""
    headcount: Any = None
    """How many agents are at what, for connectors that show it (connectors.contract.agent_count_feed.Headcount)."""

    @property
    def command_prefix(self) -> str:
        """What commands begin with in chat."""
        prefix: str = getattr(self.settings, "command_prefix", CHAT)
        return prefix
