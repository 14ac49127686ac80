"""One lane: rows of the outbox that go out in order, one at a time, and the pause after a failure."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import Final

from connectors.contract.messages import Priority
from connectors.delivery.outbox import Row

_LONGEST_ASKED: Final = 3600.0
"""Seconds; a chat system that asks for more is asked again."""
_AFTER_ASKED: Final = 0.1
_LONGEST_AFTER_ASKED: Final = 5.0
"""Seconds between attempts of which a chat system says each time that the next may come sooner."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """How long a lane waits after a failure, in seconds, and when its rows are given up."""

    first: float = 1.0
    """After the first failure; twice as long after each further one."""
    longest: float = 60.0
    give_up_after: float = 24 * 3600.0
    key_margin: float = 60.0
    """A key is taken for forgotten this much before the chat system says that it forgets: a send takes time."""


@dataclass(kw_only=True, slots=True)
class Lane:
    """What is said in one conversation, or about one message. It is to be changed by its methods."""

    name: str
    rows: list[Row] = field(default_factory=list)
    """By age."""
    in_flight: bool = False
    """The first row is being sent."""
    ready: bool = False
    """Nothing but the pace keeps the first row from being sent; `conversation` and `target` are where it goes."""
    conversation: str = ""
    target: str | None = None
    not_before: float = 0.0
    """Until then it pauses after a failure."""
    failures: int = 0
    """Failures in a row."""
    version: int = 0
    """Entries of the heaps that carry another version are out of date."""
    urgency: list[int] = field(default_factory=lambda: [0] * len(Priority))
    """How many rows of each priority there are."""

    def insert(self, row: Row) -> None:
        insort(self.rows, row, lo=1 if self.in_flight else 0, key=lambda other: other.seq)
        self.urgency[row.outbound.priority] += 1

    def remove(self, key: str) -> None:
        place = self.place(key)
        self.urgency[self.rows[place].outbound.priority] -= 1
        del self.rows[place]

    def substitute(self, row: Row) -> None:
        place = self.place(row.key)
        self.urgency[self.rows[place].outbound.priority] -= 1
        self.urgency[row.outbound.priority] += 1
        self.rows[place] = row

    def place(self, key: str) -> int:
        return next(place for place, row in enumerate(self.rows) if row.key == key)

    def get(self, key: str) -> Row:
        return self.rows[self.place(key)]

    def failed(self, now: float, after: float | None, *, backoff: Backoff, jitter: float) -> float:
        """The first row was not taken. Returns when it may be tried again.

        Args:
        now: seconds since the epoch.
        after: seconds for which the chat system asked.
        backoff: the pauses.
        jitter: from 0 up to 1.
        """
        self.failures += 1
        first, longest = (backoff.first, backoff.longest) if after is None else (_AFTER_ASKED, _LONGEST_AFTER_ASKED)
        pause = min(longest, first * 2.0 ** min(self.failures - 1, 30))
        asked = 0.0 if after is None else min(after, _LONGEST_ASKED)
        # Who was told when comes then, the first time; told again and again, it comes a little later each time.
        self.not_before = now + max(pause * (0.75 + 0.5 * jitter) if after is None or self.failures > 1 else 0.0, asked)
        return self.not_before

    def recovered(self) -> None:
        """The first row was dealt with."""
        self.failures, self.not_before = 0, 0.0

    def waiting(self) -> list[Row]:
        """Return those that are not being sent."""
        return self.rows[1:] if self.in_flight else self.rows[:]

    def priority(self) -> int:
        """Return the most urgent of its rows'."""
        return next(priority for priority, count in enumerate(self.urgency) if count)
