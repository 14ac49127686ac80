"""How many agents are at what: told by whoever knows the fleet, heard by connectors that show it. Plain numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentCounts:
    """Agents, by what a person wants to know of them at a glance."""

    working: int = 0
    waiting: int = 0
    """They ask for something, and go on when a person answers; and questions about others or about tasks."""
    failed: int = 0
    unknown: int = 0
    """They should run, and nothing was heard of them for too long."""

    def __str__(self) -> str:
        words = f"{self.working} working, {self.waiting} waiting, {self.failed} failed"
        return f"{words}, {self.unknown} unknown" if self.unknown else words


class Headcount:
    """The newest counts, for everybody who watches them."""

    def __init__(self) -> None:
        self.counts: AgentCounts | None = None
        """None: nobody has counted yet."""
        self.wanted = asyncio.Event()
        """Set while somebody watches; nobody need count before that."""
        self._watchers: list[Callable[[AgentCounts], None]] = []

    @contextmanager
    def watched(self, watcher: Callable[[AgentCounts], None]) -> Iterator[None]:
        """Have `watcher` told of each change for the length of the block."""
        self._watchers.append(watcher)
        self.wanted.set()
        try:
            yield
        finally:
            self._watchers.remove(watcher)
            if not self._watchers:
                self.wanted.clear()

    def tell(self, counts: AgentCounts) -> None:
        """So it is now."""
        if counts == self.counts:
            return
        self.counts = counts
        for watcher in tuple(self._watchers):
            watcher(counts)
