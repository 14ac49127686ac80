"""What a command, a job or a door can call upon. `bot.orchestrator` makes them and hands them over as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from bot.commands.table import CommandTable
    from bot.events import EventHub
    from bot.operators import Operators
    from register.store import Store


class HealthSource(Protocol):
    """Who can say how a part of Muster is, in the shape that ``health --json`` prints."""

    async def __call__(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """Everything that acts. Fields that a test does not need stay None."""

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
    complete: Callable[[str], Awaitable[Sequence[str]]] | None = None
    """The words that can follow, by source: ``agents``, ``runtimes``."""
    redact: Callable[[str], str] = str
    settings: Any = None
    paths: Any = None
    delivery: Any = None
    agents: Any = None
    approvals: Any = None
    conversations: Any = None
    terminal: Any = None
    """The terminal connector, which ``GET /v1/terminal`` attaches to; None when it is not configured."""
