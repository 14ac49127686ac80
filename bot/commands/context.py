"""The context of a running command: the requester, the origin, the run's id and the services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth.permission import Permission

T = TypeVar("T")
S = TypeVar("S", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The chat message of a request."""

    connector: str
    conversation: str
    parent: str | None
    """The main room, if `conversation` is a thread in it."""
    event_id: str


class RunSteps(Protocol):
    """The recorded steps of one run; see `Context`."""

    async def once(self, step: str, act: Callable[[], Awaitable[T]]) -> T: ...

    async def commit(self, step: str, act: Callable[[AsyncConnection], Awaitable[T]]) -> T: ...

    async def progress(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Generic[S]):
    """One run of one command.

    A run that a crash interrupted resumes from its beginning, under the same `run_id`. So its effects happen in
    recorded steps, or are keyed to `run_id`, so that a repetition changes nothing.
    """

    run_id: str
    identity: str
    """The requester's identity across connectors: ``matrix:@ana:example.org``."""
    permission: Permission
    through: str | None = None
    """The group that grants the permission; None if the person has it directly."""
    door: str
    """A `bot.commands.doors.Door`."""
    origin: Origin | None
    """None if the request did not come from chat."""
    services: S
    taken_up: bool
    """Whether an earlier process began this run and did not end it."""
    asked_at: float
    """Time of the request in seconds since the epoch; it may be long ago for a resumed run."""
    steps: RunSteps

    async def once(self, step: str, act: Callable[[], Awaitable[T]]) -> T:
        """Run `act` unless this run has done so before, and return its result, which must be JSON serializable.

        A crash between the act and its record causes a repetition. So key the effects of `act` to `run_id`.
        """
        return await self.steps.once(step, act)

    async def commit(self, step: str, act: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `act` exactly once, in the transaction that records it. For changes of the register only."""
        return await self.steps.commit(step, act)

    async def progress(self, text: str) -> None:
        """Report progress to the requester (Markdown). Only the latest text counts, and it may never be shown."""
        await self.steps.progress(text)
