"""What every command can call upon. Each subject adds what it makes; those above have all of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from bot.commands.syntax import CHAT
from bot.text.errors import UserError
from bot.text.timestamps import timestamp
from connectors.contract.messages import Capabilities
from core.redaction import SecretMasker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from bot.auth.permissions import Operators
    from bot.commands.context import Origin
    from bot.commands.ports import OwnedPort
    from bot.commands.registry import CommandTable
    from bot.config.loader import Settings
    from bot.config.paths import Paths
    from connectors.contract.agent_count_feed import Headcount
    from connectors.contract.connector_protocol import AttachableConnector
    from connectors.delivery.service import Delivery
    from database.engine.store import Store
    from fleet.launch.launch_plan import Planner
    from fleet.roster.cache import LatestRoster
    from scheduler.dispatch.dispatch_loop import Dispatcher
    from scheduler.jobs import Jobs


class HealthSource(Protocol):
    """Who can say how a part of Muster is, in the shape that ``health --json`` prints."""

    async def __call__(self) -> Mapping[str, Any]: ...


def _cannot(connector: str) -> Capabilities:
    del connector
    return Capabilities()


def no_room(origin: Origin | None) -> tuple[str, str]:
    """Return the room of an agent's thread where muster.yaml names none: that of whoever asked.

    Raises:
        UserError: no one in a room did.
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
    """In the place of a service that is made later."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise AttributeError(f"services.{self._name} is not made yet, and its {attribute} is asked for")


def later(name: str) -> Callable[[], Any]:
    """Return the default of a service that is made while starting; asking it for anything before raises
    AttributeError."""
    return lambda: _Later(name)


@dataclass(kw_only=True, slots=True)
class CommandServices:
    """Everything that acts. Filled while starting, in the order of the stages, and then left alone."""

    clock: Callable[[], float]
    """Seconds since the epoch."""
    store: Store
    table: CommandTable
    operators: Operators
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
    settings: Settings = field(default_factory=later("settings"))
    """What muster.yaml says; another value once it is taken up anew."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """Where references to secrets are looked up."""
    paths: Paths = field(default_factory=later("paths"))
    delivery: Delivery = field(default_factory=later("delivery"))
    roster: LatestRoster = field(default_factory=later("roster"))
    """roster.yaml as it was read last."""
    planner: Planner = field(default_factory=later("planner"))
    """What agents would be started as."""
    agents: OwnedPort = field(default_factory=later("agents"))
    """The agents, as far as the subjects below theirs need them."""
    dispatcher: Dispatcher = field(default_factory=later("dispatcher"))
    """Decides which task begins."""
    jobs: Jobs = field(default_factory=later("jobs"))
    """What is done at times; jobs can be put and dropped while it runs."""
    terminal: AttachableConnector | None = None
    """The terminal connector, which ``GET /v1/terminal`` attaches to; None when it is not configured."""
    terminals: Mapping[str, AttachableConnector] = field(default_factory=dict)
    """By its name, every connector that clients of ``GET /v1/terminal`` can attach to: terminals, and tmux."""
    headcount: Headcount = field(default_factory=later("headcount"))
    """How many agents are at what, for connectors that show it."""

    @property
    def command_prefix(self) -> str:
        """What commands begin with in chat."""
        return getattr(self.settings, "command_prefix", CHAT)
