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
from core.redaction import SecretMasker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from bot.agents.service import Agents
    from bot.agents.watch import Watches
    from bot.app.config_reload import Reloaded
    from bot.approvals.questions import Questions
    from bot.auth.permissions import Operators
    from bot.commands.context import Origin
    from bot.commands.registry import CommandTable
    from bot.config.loader import Settings
    from bot.config.paths import Paths
    from bot.egress_client.client import EgressClient
    from bot.interfaces.chat.router import Conversations
    from bot.messaging.event_hub import EventHub
    from bot.monitoring.fleet_snapshot import Lookout
    from bot.pacing.auto_resume import Continuing
    from bot.pacing.runaway_guard import Breaker
    from bot.pacing.service import PaceService
    from bot.reports.poster import Reports
    from bot.tasks.assignment import Handing
    from bot.tasks.settlement import Settling
    from bot.tasks.state_machine import TaskSteps
    from connectors.contract.agent_count_feed import Headcount
    from connectors.contract.connector_protocol import AttachableConnector
    from connectors.delivery.service import Delivery
    from database.engine.store import Store
    from fleet.launch.launch_plan import Planner
    from scheduler.dispatch.dispatch_loop import Dispatcher
    from scheduler.jobs import Jobs


class HealthSource(Protocol):
    """Who can say how a part of Muster is, in the shape that ``health --json`` prints."""

    async def __call__(self) -> Mapping[str, Any]: ...


def _cannot(connector: str) -> Capabilities:
    del connector
    return Capabilities()


def no_room(origin: Origin | None) -> tuple[str, str]:
    """The room of an agent's thread where muster.yaml names none: that of whoever asked.

    Raises:
        UserError: nobody in a room did.
    """
    if origin is None:
        raise UserError("There is no room for an agent's thread: name a fleet room in muster.yaml.")
    return origin.connector, origin.parent or origin.conversation


async def _no_words(source: str) -> Sequence[str]:
    del source
    return ()


class _Later:
    """In the place of a service that is made later."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise AttributeError(f"services.{self._name} is not made yet, and its {attribute} is asked for")


def _later(name: str) -> Callable[[], Any]:
    return lambda: _Later(name)


@dataclass(kw_only=True, slots=True)
class Services:
    """Everything that acts. Filled while starting, in the order of the stages, and then left alone. What is asked for
    before it is made raises AttributeError."""

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
    redact: SecretMasker = field(default_factory=SecretMasker)
    """From a text to what may leave of it."""
    timestamp: Callable[[float | None], str | None] = timestamp
    """RFC 3339 in UTC."""
    capabilities: Callable[[str], Capabilities] = _cannot
    """What the connector of that name can do; nothing when there is none."""
    main_room: Callable[[Origin | None], tuple[str, str]] = no_room
    """Connector and conversation in which an agent's thread is opened, by where its launch was asked for."""
    bridge: Bridge = field(default_factory=Bridge)
    """Which rooms mirror each other."""
    overlap: Overlap = field(default_factory=Overlap)
    """Which connectors may read the same."""
    settings: Settings = field(default_factory=_later("settings"))
    """What muster.yaml says; another value once it is taken up anew
   ."""
    reload: Callable[[], Awaitable[Reloaded]] = field(default_factory=_later("reload"))
    """Reads muster.yaml again, takes up what can be, and tells the egress."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Where references to secrets are looked up."""
    paths: Paths = field(default_factory=_later("paths"))
    delivery: Delivery = field(default_factory=_later("delivery"))
    agents: Agents = field(default_factory=_later("agents"))
    planner: Planner = field(default_factory=_later("planner"))
    """What agents would be started as."""
    watches: Watches = field(default_factory=_later("watches"))
    lookout: Lookout = field(default_factory=_later("lookout"))
    conversations: Conversations = field(default_factory=_later("conversations"))
    outlet: EgressClient | None = None
    """The egress as this process knows it."""
    pace: PaceService = field(default_factory=_later("pace"))
    """Windows and their even-spread lines."""
    dispatcher: Dispatcher = field(default_factory=_later("dispatcher"))
    """Decides which task begins."""
    assignment: Handing = field(default_factory=_later("assignment"))
    """Gives tasks to agents."""
    continuing: Continuing = field(default_factory=_later("continuing"))
    """Has agents go on that stopped at a limit."""
    settling: Settling = field(default_factory=_later("settling"))
    """Counts and tells what ended tasks came to."""
    task_steps: TaskSteps = field(default_factory=_later("task_steps"))
    """What becomes of tasks that agents have."""
    runaway: Breaker = field(default_factory=_later("runaway"))
    """Pauses agents that spend with nothing to show for it."""
    questions: Questions = field(default_factory=_later("questions"))
    """What is asked of operators besides permissions."""
    reports: Reports = field(default_factory=_later("reports"))
    """What is posted at times."""
    jobs: Jobs = field(default_factory=_later("jobs"))
    """What is done at times; jobs can be put and dropped while it runs."""
    terminal: AttachableConnector | None = None
    """The terminal connector, which ``GET /v1/terminal`` attaches to; None when it is not configured."""
    terminals: Mapping[str, AttachableConnector] = field(default_factory=dict)
    """By its name, every connector that clients of ``GET /v1/terminal`` can attach to: terminals, and tmux."""
    headcount: Headcount = field(default_factory=_later("headcount"))
    """How many agents are at what, for connectors that show it."""

    @property
    def command_prefix(self) -> str:
        """What commands begin with in chat."""
        return getattr(self.settings, "command_prefix", CHAT)
