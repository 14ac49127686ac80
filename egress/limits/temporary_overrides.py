"""How long limits and paces stay lifted, by a monotonic clock.

The settings give the wall-clock time at which an authorization ends. The remaining time is calculated once, when it
first arrives. So setting the clock back never extends it, even if settings arrive again or agents change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from egress.limits.limit_counters import LimitCounter
from egress.settings import EgressSettings, LimitSettings, PaceSettings


class TemporaryOverrides:
    """The temporary lifts of one egress.

    Args:
        counters: the current counters.
        lowered: called with each counter whose lift has ended.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        counters: Iterable[LimitCounter],
        *,
        lowered: Callable[[LimitCounter], None],
        clock: Callable[[], float],
    ) -> None:
        self._counters = counters
        self._lowered = lowered
        self._clock = clock
        self._ends: dict[float, float] = {}
        """By the moment at which they end, as it was told: when that is by the clock that nobody sets."""
        self._timer: asyncio.TimerHandle | None = None

    def lasting(self, settings: EgressSettings) -> EgressSettings:
        """Return the settings without the lifts whose time is over, regardless of the wall clock."""
        now, ticks = self._clock(), _ticks()
        self._ends = {until: end for until, end in self._ends.items() if now < until}
        lifted: list[LimitSettings | PaceSettings] = [*settings.limits, *settings.paces]
        for each in lifted:
            if each.lift and each.lift_until is not None and now < each.lift_until:
                self._end(each.lift_until)
        over = {until for until, end in self._ends.items() if end <= ticks}
        return settings.without_lifts(over.__contains__) if over else settings

    def watch(self) -> None:
        """Schedule the end of the current lifts, which also applies to running responses."""
        self.close()
        ends = [self._end(until) for counter in self._counters for until in counter.lifted_until]
        if ends:
            self._timer = asyncio.get_running_loop().call_at(min(ends), self._lower)

    def close(self) -> None:
        """Cancel the scheduled end of lifts."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, until: float) -> float:
        return self._ends.setdefault(until, _ticks() + until - self._clock())

    def _lower(self) -> None:
        ticks = _ticks()

        def is_over(until: float) -> bool:
            return self._end(until) <= ticks

        for counter in self._counters:
            if any(map(is_over, counter.lifted_until)):
                counter.lower(is_over)
                self._lowered(counter)
        self.watch()


def _ticks() -> float:
    return asyncio.get_running_loop().time()
