"""The current counters of each limit: used, held, streaming. They are in memory, and the ledger can restore them.

Tokens are counted in thousandths of weighted tokens and money in nano-USD, both exact integers. So sums here and sums
over the ledger agree, in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from budget.limits.request_admission import LimitState
from budget.limits.scopes import Limit
from budget.tokens import Tokens, Weights
from budget.windows import window_boundaries
from budget.windows.overrun_allowance import PaceAllowance

_FINE: Final = {"tokens": 1000, "usd": 1}


def fine(limit: Limit) -> int:
    """Return how many counted parts make one of the limit's units."""
    return _FINE[limit.unit]


def weight(tokens: Tokens, weights: Weights) -> int:
    """Return the weight of tokens, in thousandths of weighted tokens."""
    return (
        tokens.input * weights.input
        + tokens.output * weights.output
        + tokens.cache_read * weights.cache_read
        + tokens.cache_write * weights.cache_write
        + tokens.reasoning * weights.reasoning
    )


class Spending:
    """What was used within the current window."""

    __slots__ = ("ends_at", "nano_usd", "requests", "start", "tokens", "window")

    def __init__(self, window: str | None, now: float) -> None:
        self.window = window
        self._begin(now)

    def _begin(self, now: float) -> None:
        self.start = window_boundaries.start_of(self.window, now)
        self.ends_at = window_boundaries.end_of(self.window, now)
        self.tokens = Tokens()
        self.requests = self.nano_usd = 0

    def roll(self, now: float) -> bool:
        """Start a new window if the current one has ended, and return whether it had."""
        if self.ends_at is None or now < self.ends_at:
            return False
        self._begin(now)
        return True

    def add(self, tokens: Tokens, nano_usd: int, requests: int = 1) -> None:
        self.requests += requests
        self.tokens += tokens
        self.nano_usd += nano_usd


class LimitCounter:
    """One limit's counter for one scope: a pool's own, or for an allowance the agent or its launch."""

    __slots__ = (
        "bound",
        "counted_on",
        "crossed",
        "grace",
        "held",
        "likely",
        "limit",
        "met",
        "open",
        "pace",
        "spending",
        "streaming",
        "used",
        "written",
    )

    def __init__(self, limit: Limit, counted_on: str, now: float) -> None:
        self.written = limit
        """With what it is lifted by, and until when."""
        limit = limit.at(now)
        self.limit = limit
        """As it holds now."""
        self.counted_on = counted_on
        self.pace: PaceAllowance | None = None
        """What of it may be used by when."""
        self.bound = limit.amount * fine(limit)
        self.spending = Spending(limit.window, now)
        self.used = 0
        """Settled within the window."""
        self.held = 0
        """The worst cases of the requests in flight."""
        self.likely = 0
        """What they will probably use."""
        self.open = 0
        """How many they are."""
        self.grace = 0
        """So much beyond the limit one of them may come to (budget.limits.request_admission)."""
        self.streaming = 0
        """What the requests in flight used so far."""
        self.crossed = False
        """It was reached, and what had to be done about that was done."""
        self.met: set[str] = set()
        """Agents that met its policy since it was reached."""

    @property
    def key(self) -> tuple[Any, ...]:
        """The identity of the counter; it stays the same if the limit's amount or policy changes."""
        return key(self.limit, self.counted_on)

    @property
    def spent(self) -> bool:
        return self.used >= self.bound

    @property
    def reached(self) -> bool:
        """Whether nothing more may be used. While responses stream, the limit must be exceeded, not only met: a
        response that was clamped to the remaining amount may end exactly there."""
        return self.used >= self.bound or self.used + self.streaming > self.bound + self.grace

    @property
    def left(self) -> int:
        """What is neither used nor held, as of the last `standing`; in whole units, rounded down."""
        return (self.bound - self.used - self.held) // fine(self.limit)

    def replace(self, limit: Limit, now: float) -> None:
        """Apply another amount or policy. A limit that was reached may open again."""
        self.written = limit
        self._hold(limit.at(now))

    @property
    def lifted_until(self) -> list[float]:
        """When its lifts end: that of the limit, and that of the pace."""
        ends = [] if self.limit is self.written else [self.written.lift_until]
        return ends if self.pace is None or not self.pace.lift else [*ends, self.pace.lift_until]

    def lower(self, is_over: Callable[[float], bool]) -> None:
        """Remove each lift for whose end `is_over` returns True, regardless of the clock."""
        if self.limit is not self.written and is_over(self.written.lift_until):
            self.written = replace(self.written, lift=0)
            self._hold(self.written)
        if self.pace is not None and self.pace.lift and is_over(self.pace.lift_until):
            self.pace = self.pace.without_lift()

    def _hold(self, limit: Limit) -> None:
        self.limit = limit
        self.bound = limit.amount * fine(limit)
        if self.used + self.streaming < self.bound:
            self._reopen()

    def roll(self, now: float) -> None:
        """Start a new window if the current one has ended, and remove a lift that is over."""
        if self.limit is not self.written and now >= self.written.lift_until:
            self._hold(self.written)
        if self.spending.roll(now):
            self.used = 0
            self._reopen()

    def weigh_anew(self, weights: Weights) -> None:
        """Recalculate the used amount with other weights."""
        if self.limit.unit == "tokens":
            self.used = weight(self.spending.tokens, weights)

    def load(self, tokens: Tokens, nano_usd: int, requests: int, weights: Weights) -> None:
        """Add usage from the ledger."""
        self.spending.add(tokens, nano_usd, requests)
        self.used += weight(tokens, weights) if self.limit.unit == "tokens" else nano_usd

    def standing(self, now: float) -> LimitState:
        """Return the state for a decision; in whole units, rounded up."""
        self.roll(now)
        per = fine(self.limit)
        return LimitState(
            limit=self.limit,
            used=-(-self.used // per),
            reserved=-(-self.held // per),
            open=self.open,
            likely=-(-self.likely // per),
            ends_at=self.spending.ends_at,
            pace=self.pace,
        )

    def _reopen(self) -> None:
        self.crossed = False
        self.met.clear()


def key(limit: Limit, counted_on: str) -> tuple[Any, ...]:
    """Return the identity of a counter; see `LimitCounter.key`."""
    return limit.kind, limit.scope, limit.unit, limit.window, counted_on


class CounterHold:
    """What one running request holds on one counter, in counted parts.

    Args:
        counter: the counter.
        held: its worst case, or the whole remaining amount if it runs alone.
        reading: what its input counts for until the provider reports it.
        likely: what it will probably use.
        grace: how far it may exceed the limit.
    """

    __slots__ = ("counter", "grace", "held", "likely", "reading", "so_far")

    def __init__(self, counter: LimitCounter, held: int, *, reading: int, likely: int, grace: int = 0) -> None:
        self.counter = counter
        self.held = held
        self.reading = reading
        self.likely = likely
        self.grace = grace
        self.so_far = 0
        counter.held += held
        counter.likely += likely
        counter.grace += grace
        counter.open += 1

    def lower(self, held: int) -> bool:
        """Hold at most this amount, because the provider reported it; return whether that is less than before."""
        if held >= self.held:
            return False
        self.counter.held -= self.held - held
        self.held = held
        return True

    def count(self, so_far: int) -> bool:
        """Take what the request has used so far, and return whether the limit is passed now.

        The amount can decrease if the provider reports a smaller input than was assumed.
        """
        counter = self.counter
        counter.streaming += so_far - self.so_far
        self.so_far = so_far
        if so_far > self.held:
            counter.held += so_far - self.held
            self.held = so_far
        if so_far > self.likely:
            counter.likely += so_far - self.likely
            self.likely = so_far
        return counter.reached

    def release(self) -> None:
        """Release the whole hold."""
        counter = self.counter
        counter.held -= self.held
        counter.likely -= self.likely
        counter.grace -= self.grace
        counter.streaming -= self.so_far
        counter.open -= 1
        self.held = self.likely = self.grace = self.so_far = 0
