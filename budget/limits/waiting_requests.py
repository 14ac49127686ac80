"""The line of requests that wait for one another at limits. Pure; a waiting request reserves nothing.

The oldest request goes first. A request that does not fit under a limit claims it, and no younger request passes it
there. On other limits, younger requests go ahead. A request keeps its claims until it leaves the line, so that no
request passes it at one limit while it waits for another. While it waits for its own agent's allowance, it claims no
shared limit: an agent at its own limit blocks no other agent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_T = TypeVar("_T")


@dataclass(eq=False)
class WaitingRequest(Generic[_T]):
    """One request in the line."""

    what: _T
    draws: frozenset[Hashable]
    """The limits that it draws on."""
    claims: set[Hashable] = field(default_factory=set)
    """The limits at which no other request passes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stays:
    """The request does not fit yet."""

    on: frozenset[Hashable]
    """The limits that it waits for."""
    own: frozenset[Hashable] = frozenset()
    """The limits among these that belong to its agent."""


class WaitingLine(Generic[_T]):
    """All waiting requests, oldest first."""

    def __init__(self) -> None:
        self._all: dict[WaitingRequest[_T], None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[WaitingRequest[_T]]:
        return iter(list(self._all))

    def enter(self, what: _T, draws: Collection[Hashable]) -> WaitingRequest[_T]:
        """Add a request to the end of the line."""
        waiting = WaitingRequest(what, frozenset(draws))
        self._all[waiting] = None
        return waiting

    def leave(self, waiting: WaitingRequest[_T]) -> bool:
        """Remove a request, and return whether it was in the line."""
        return self._all.pop(waiting, self) is None

    def is_claimed(self, draws: Collection[Hashable]) -> bool:
        """Return whether a new request would pass another one at one of these limits."""
        return any(not each.claims.isdisjoint(draws) for each in self._all)

    def advance(self, ask: Callable[[_T], Stays | None]) -> None:
        """Let all requests go that fit, oldest first.

        Args:
            ask: lets a request go and returns None, or returns why it stays.
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
