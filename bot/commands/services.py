"""Services available to every command. Each package adds its own; packages above have all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bot.auth.permissions import Operators
from bot.commands.context import Origin
from bot.commands.ports import OwnedPort
from bot.commands.registry import CommandTable
from bot.commands.syntax import CHAT
from bot.config.loader import Settings
from bot.config.paths import Paths
from bot.read_models.documents import DocumentFeed
from bot.read_models.health import HealthModel, PartHealth
from bot.text.errors import UserError
from bot.text.timestamps import timestamp
from connectors.contract.agent_count_feed import Headcount
from connectors.contract.connector_protocol import AttachableConnector
from connectors.contract.messages import Capabilities
from connectors.delivery.service import Delivery
from core.redaction import SecretMasker
from database.engine.store import Store
from fleet.launch.launch_plan import Planner
from fleet.roster.cache import LatestRoster
from scheduler.dispatch.dispatch_loop import Dispatcher
from scheduler.jobs import Jobs


class HealthSource(Protocol):
    """Checks all parts of Muster."""

    async def __call__(self) -> HealthModel: ...


def _cannot(connector: str) -> Capabilities:
    del connector
    return Capabilities()


def no_room(origin: Origin | None) -> tuple[str, str]:
    """Return the chat room for an agent's thread if muster.yaml names none: the room of the request.

    Raises:
        UserError: the request did not come from a chat room.
    """
    if origin is None:
        raise UserError(
            "There is no room for an agent's thread: name a fleet room in muster.yaml.", code="room.missing"
        )
    return origin.connector, origin.parent or origin.conversation


async def _no_words(source: str) -> Sequence[str]:
    del source
    return ()


class _Later:
    """Placeholder for a service that is created later."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise AttributeError(f"services.{self._name} is not made yet, and its {attribute} is asked for")


def later(name: str) -> Callable[[], Any]:
    """Return the default factory of a service that is created at startup. Its use before raises AttributeError."""
    return lambda: _Later(name)


@dataclass(kw_only=True, slots=True)
class CommandServices:
    """All services of a process. They are set at startup, in the order of the stages, and then stay unchanged."""

    clock: Callable[[], float]
    """Seconds since the epoch."""
    store: Store
    table: CommandTable
    operators: Operators
    version: str = "0"
    started_at: float = 0.0
    health: HealthSource | None = None
    """None: nothing is known of any part."""
    complete: Callable[[str], Awaitable[Sequence[str]]] = _no_words
    """Source of completions: ``agents``, ``runtimes``."""
    redact: SecretMasker = field(default_factory=SecretMasker)
    """Redaction of secrets in texts that leave Muster."""
    timestamp: Callable[[float | None], str | None] = timestamp
    """RFC 3339 in UTC."""
    capabilities: Callable[[str], Capabilities] = _cannot
    """Capabilities of the connector with this name; none if there is no such connector."""
    main_room: Callable[[Origin | None], tuple[str, str]] = no_room
    """Connector and conversation for an agent's new thread, by the origin of the launch request."""
    settings: Settings = field(default_factory=later("settings"))
    """Settings from muster.yaml; a reload replaces the value."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for references to secrets."""
    paths: Paths = field(default_factory=later("paths"))
    delivery: Delivery = field(default_factory=later("delivery"))
    roster: LatestRoster = field(default_factory=later("roster"))
    """The latest content of roster.yaml."""
    planner: Planner = field(default_factory=later("planner"))
    """Planner of launches of agents."""
    agents: OwnedPort = field(default_factory=later("agents"))
    """The agents, as far as lower packages need them."""
    dispatcher: Dispatcher = field(default_factory=later("dispatcher"))
    """Dispatcher that decides which task begins."""
    jobs: Jobs = field(default_factory=later("jobs"))
    """Scheduled jobs; jobs can be added and removed while it runs."""
    terminal: AttachableConnector | None = None
    """The terminal connector, to which ``GET /v1/terminal`` attaches; None if it is not configured."""
    terminals: Mapping[str, AttachableConnector] = field(default_factory=dict)
    """Connectors by name that clients of ``GET /v1/terminal`` can attach to: terminals and tmux."""
    documents: DocumentFeed = field(default_factory=later("documents"))
    """What dashboards show."""
    web_address: str | None = None
    """The address of the dashboard while it runs, or None."""
    trace_health: Callable[[], PartHealth] | None = None
    """Whether traces reach their collector; None if none are sent."""
    headcount: Headcount = field(default_factory=later("headcount"))
    """Number of agents by activity, for connectors that show it."""

    @property
    def command_prefix(self) -> str:
        """The prefix of commands in chat."""
        return getattr(self.settings, "command_prefix", CHAT)
