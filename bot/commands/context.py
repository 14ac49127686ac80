"""What a running command knows: who asked, from where, under which id, and what it may call upon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.auth.permission import Permission

T = TypeVar("T")
S = TypeVar("S", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The chat message that asked."""

    connector: str
    conversation: str
    parent: str | None
    """The main room, when `conversation` is a thread in it."""
    event_id: str


class RunSteps(Protocol):
    """The recorded steps of one run; see `Context`."""

    async def once(self, step: str, act: Callable[[], Awaitable[T]]) -> T: ...

    async def commit(self, step: str, act: Callable[[AsyncConnection], Awaitable[T]]) -> T: ...

    async def progress(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Generic[S]):
    """One run of one command.

    A run that a crash cut off is taken up again from its beginning, under the same `run_id`. Its effects therefore
    happen in recorded steps, or are keyed to `run_id` so that doing them again changes nothing.
    """

    run_id: str
    identity: str
    """Who asked, across connectors: ``matrix:@ana:example.org``."""
    permission: Permission
    through: str | None = None
    """The group by which they have it; None where it was said of themselves."""
    door: str
    """chat, cli or gateway."""
    origin: Origin | None
    """None when it did not come from chat."""
    services: S
    taken_up: bool
    """Whether an earlier process began this run and did not end it."""
    asked_at: float
    """When it was asked for, in seconds since the epoch: of a run that is taken up that may be long ago."""
    steps: RunSteps

    async def once(self, step: str, act: Callable[[], Awaitable[T]]) -> T:
        """Do `act` unless this run has done it before, and return its result, which JSON must be able to hold.

        A crash between the act and its record makes it happen again: let what `act` does be keyed to `run_id`.
        """
        return await self.steps.once(step, act)

    async def commit(self, step: str, act: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Like `once` for what is written to the register: in the transaction that records it, so exactly once."""
        return await self.steps.commit(step, act)

    async def progress(self, text: str) -> None:
        """Tell whoever asked how far it has got (Markdown). Only the newest counts; it may never be seen."""
        await self.steps.progress(text)
