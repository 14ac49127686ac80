"""Requests that wait for one another at limits: who goes next. Pure; a waiting request holds nothing.

The oldest goes first. A request that does not fit under a limit claims it, and no younger one passes it there; on
limits that it does not wait for, others go on. It keeps a claim until it leaves the line, so that a request with
several limits is not passed at one while it waits for another. But while it waits for its own agent's allowance, it
claims nothing that others share: an agent that is at its own limit holds up no one else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator

_T = TypeVar("_T")


@dataclass(eq=False)
class WaitingRequest(Generic[_T]):
    """One request in the line."""

    what: _T
    draws: frozenset[Hashable]
    """The limits that it draws on."""
    claims: set[Hashable] = field(default_factory=set)
    """Those at which nobody passes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stays:
    """It does not fit yet."""

    on: frozenset[Hashable]
    """The limits that it waits for."""
    own: frozenset[Hashable] = frozenset()
    """Those of these that are its agent's own."""


class WaitingLine(Generic[_T]):
    """All that wait, oldest first."""

    def __init__(self) -> None:
        self._all: dict[WaitingRequest[_T], None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[WaitingRequest[_T]]:
        return iter(list(self._all))

    def enter(self, what: _T, draws: Collection[Hashable]) -> WaitingRequest[_T]:
        """Stand at the end of the line."""
        waiting = WaitingRequest(what, frozenset(draws))
        self._all[waiting] = None
        return waiting

    def leave(self, waiting: WaitingRequest[_T]) -> bool:
        """Leave the line; whether it was in it."""
        return self._all.pop(waiting, self) is None

    def is_claimed(self, draws: Collection[Hashable]) -> bool:
        """Return whether someone who came now would pass another at one of these limits."""
        return any(not each.claims.isdisjoint(draws) for each in self._all)

    def advance(self, ask: Callable[[_T], Stays | None]) -> None:
        """Let go who fits, oldest first.

        Args:
            ask: lets one go and returns None, or says why it stays.
        """
        claimed: set[Hashable] = set()
        for waiting in list(self._all):
            if waiting not in self._all:
                continue
            if claimed.isdisjoint(waiting.draws):
                stays = ask(waiting.what)
                if stays is None:
                    self.leave(waiting)
                    continue
                waiting.claims = set(stays.own) if stays.own else waiting.claims | stays.on
            claimed |= waiting.claims
