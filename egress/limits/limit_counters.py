"""What stands against each limit at this moment: used, held, streaming. In memory; the ledger is its memory's memory.

Tokens are counted in thousandths of weighted ones and money in nano-USD, both exact whole numbers; so sums here and
sums over the ledger agree, whatever the order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from budget.limits.request_admission import LimitState
from budget.tokens import Tokens
from budget.windows import window_boundaries

if TYPE_CHECKING:
    from collections.abc import Callable

    from budget.limits.scopes import Limit
    from budget.tokens import Weights
    from budget.windows.overrun_allowance import PaceAllowance

_FINE: Final = {"tokens": 1000, "usd": 1}


def fine(limit: Limit) -> int:
    """So many of the parts that are counted make one of the limit's unit."""
    return _FINE[limit.unit]


def weight(tokens: Tokens, weights: Weights) -> int:
    """Return what tokens count, in thousandths."""
    return (
        tokens.input * weights.input
        + tokens.output * weights.output
        + tokens.cache_read * weights.cache_read
        + tokens.cache_write * weights.cache_write
        + tokens.reasoning * weights.reasoning
    )


class Spending:
    """What was used within a window that is now."""

    __slots__ = (
        "cache_read",
        "cache_write",
        "ends_at",
        "input",
        "nano_usd",
        "output",
        "reasoning",
        "requests",
        "start",
        "window",
    )

    def __init__(self, window: str | None, now: float) -> None:
        self.window = window
        self._begin(now)

    def _begin(self, now: float) -> None:
        self.start = window_boundaries.start_of(self.window, now)
        self.ends_at = window_boundaries.end_of(self.window, now)
        self.requests = self.input = self.output = self.cache_read = self.cache_write = self.reasoning = 0
        self.nano_usd = 0

    def roll(self, now: float) -> bool:
        """Start again when the window has ended; whether it had."""
        if self.ends_at is None or now < self.ends_at:
            return False
        self._begin(now)
        return True

    def add(self, tokens: Tokens, nano_usd: int, requests: int = 1) -> None:
        self.requests += requests
        self.input += tokens.input
        self.output += tokens.output
        self.cache_read += tokens.cache_read
        self.cache_write += tokens.cache_write
        self.reasoning += tokens.reasoning
        self.nano_usd += nano_usd

    @property
    def tokens(self) -> Tokens:
        return Tokens(
            input=self.input,
            output=self.output,
            cache_read=self.cache_read,
            cache_write=self.cache_write,
            reasoning=self.reasoning,
        )


class LimitCounter:
    """One limit, as it is counted for one scope: a pool's own, or of an allowance the agent's or its launch's."""

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
        """Tells it from every other one; a limit whose amount or policy changes stays the same."""
        return key(self.limit, self.counted_on)

    @property
    def spent(self) -> bool:
        return self.used >= self.bound

    @property
    def reached(self) -> bool:
        """Nothing more may be used. While responses stream, the limit must be passed for that, and not only be met: one
        that was clamped to what was left may just end there."""
        return self.used >= self.bound or self.used + self.streaming > self.bound + self.grace

    @property
    def left(self) -> int:
        """What no one used or holds, as of the last `standing`; in whole units, rounded down."""
        return (self.bound - self.used - self.held) // fine(self.limit)

    def replace(self, limit: Limit, now: float) -> None:
        """Hold another amount, or another policy. What was reached before may be open again."""
        self.written = limit
        self._hold(limit.at(now))

    @property
    def lifted_until(self) -> list[float]:
        """When the lifts end that it has: of the limit, and of the pace."""
        ends = [] if self.limit is self.written else [self.written.lift_until]
        return ends if self.pace is None or not self.pace.lift else [*ends, self.pace.lift_until]

    def lower(self, is_over: Callable[[float], bool]) -> None:
        """Hold no lift any more that is over by this, whatever the clock says."""
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
        """Start again when the window has ended; hold no lift that is over."""
        if self.limit is not self.written and now >= self.written.lift_until:
            self._hold(self.written)
        if self.spending.roll(now):
            self.used = 0
            self._reopen()

    def weigh_anew(self, weights: Weights) -> None:
        """Count what was used with other weights."""
        if self.limit.unit == "tokens":
            self.used = weight(self.spending.tokens, weights)

    def load(self, tokens: Tokens, nano_usd: int, requests: int, weights: Weights) -> None:
        """Add what the ledger says was used."""
        self.spending.add(tokens, nano_usd, requests)
        self.used += weight(tokens, weights) if self.limit.unit == "tokens" else nano_usd

    def standing(self, now: float) -> LimitState:
        """For a decision; in whole units, rounded up."""
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
    """See `LimitCounter.key`."""
    return limit.kind, limit.scope, limit.unit, limit.window, counted_on


class CounterHold:
    """What one request in flight holds against one tally, in the parts that are counted.

    Args:
        tally: against which.
        held: its worst case, or all that was left where it goes alone.
        reading: what its input counts for until the provider tells.
        likely: what it will probably use.
        grace: so much beyond the limit it may come to.
    """

    __slots__ = ("grace", "held", "likely", "reading", "so_far", "tally")

    def __init__(self, tally: LimitCounter, held: int, *, reading: int, likely: int, grace: int = 0) -> None:
        self.tally = tally
        self.held = held
        self.reading = reading
        self.likely = likely
        self.grace = grace
        self.so_far = 0
        tally.held += held
        tally.likely += likely
        tally.grace += grace
        tally.open += 1

    def lower(self, held: int) -> bool:
        """Hold no more than this, since the provider told so; whether that is less than before."""
        if held >= self.held:
            return False
        self.tally.held -= self.held - held
        self.held = held
        return True

    def count(self, so_far: int) -> bool:
        """Take what the request used so far; whether the limit is passed now.

        It can become less: when the provider tells what was read, and it is less than was assumed.
        """
        tally = self.tally
        tally.streaming += so_far - self.so_far
        self.so_far = so_far
        if so_far > self.held:
            tally.held += so_far - self.held
            self.held = so_far
        if so_far > self.likely:
            tally.likely += so_far - self.likely
            self.likely = so_far
        return tally.reached

    def release(self) -> None:
        """Give everything back."""
        tally = self.tally
        tally.held -= self.held
        tally.likely -= self.likely
        tally.grace -= self.grace
        tally.streaming -= self.so_far
        tally.open -= 1
        self.held = self.likely = self.grace = self.so_far = 0
