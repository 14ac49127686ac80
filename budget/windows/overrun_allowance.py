"""The bound for running work ahead of the line, which the egress enforces. Pure; times are seconds since the epoch.

Work that begins must fit under the line (budget.windows.pace_admission). Running work may cost more than projected, and
is not stopped at the line for that. But a turn that never ends would use up a week in one day. So the usage may be
ahead of the line by the amount of a day (in short windows: of a fifth), plus the burst and the authorized amount. This
bound is also a straight line, and ends where it meets the limit. So it is sent once, and the egress enforces it with
its own clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from budget.windows.even_spread_line import JITTER_S, PacePolicy, burst_at, least_burst, line_at
from budget.windows.large_task_accrual import is_large, turn_s
from budget.windows.window_state import WindowState, worth


@dataclass(frozen=True, kw_only=True, slots=True)
class PaceAllowance:
    """A straight line of allowed usage up to the limit. Before and after it, only the limit applies."""

    from_at: float
    from_amount: float
    until_at: float
    until_amount: float
    """The limit."""
    lift: float = 0.0
    """An additional amount until `lift_until`: what is left of authorizations."""
    lift_until: float = 0.0
    """The end of `lift`."""

    @property
    def is_sane(self) -> bool:
        """Whether all numbers are finite and the line rises."""
        numbers = (self.from_at, self.from_amount, self.until_at, self.until_amount, self.lift, self.lift_until)
        return (
            all(map(math.isfinite, numbers))
            and self.from_at < self.until_at
            and self.from_amount < self.until_amount
            and self.lift >= 0
        )

    def at(self, t: float) -> float | None:
        """Return the allowed usage at `t`, or None if there is no pace then.

        Also return None if the line begins in the future, since the clock was changed then.
        """
        if not self.from_at - JITTER_S <= t < self.until_at:
            return None
        part = max(0.0, (t - self.from_at) / (self.until_at - self.from_at))
        lift = self.lift if t < self.lift_until else 0.0
        return self.from_amount + (self.until_amount - self.from_amount) * part + lift

    def passes(self, amount: float, t: float) -> float:
        """Return the first time from `t` on at which more than this amount is allowed, if nothing else is used."""
        lifted = self._reaches(amount - self.lift)
        return max(t, lifted if lifted < self.lift_until else self._reaches(amount))

    def without_lift(self) -> PaceAllowance:
        """Return the allowance without authorizations."""
        return replace(self, lift=0.0, lift_until=0.0)

    def _reaches(self, amount: float) -> float:
        part = (amount - self.from_amount) / (self.until_amount - self.from_amount)
        return self.from_at + (self.until_at - self.from_at) * min(1.0, max(0.0, part))


def overrun(standing: WindowState, now: float, policy: PacePolicy) -> PaceAllowance | None:
    """Return the allowance of running work in the window's unit, or None if only the limit applies.

    The allowance depends on the current line and the running work. Usage does not change it, and `now` only matters for
    authorizations. It is never below the ceiling for work that begins (`budget.windows.window_state.ceiling`). A
    running large task (`budget.windows.large_task_accrual`) adds its projected usage. The allowance never exceeds the
    limit plus the amount authorized beyond it. While a critical task runs, only the limit applies.
    """
    window, line = standing.window, standing.line
    if (
        standing.critical
        or policy.overrun is None
        or line.resets_at is None
        or window.known_use is None
        or window.certainty == "unknown"
    ):
        return None
    limit = min(window.known_limit, line.limit)
    reads = max(policy.overrun, policy.borrow) * turn_s(window)
    large = standing.largest if is_large(standing, standing.largest) else 0.0

    def allowed(t: float) -> float:
        # Never below the ceiling for work that begins (budget.windows.even_spread_line.burst_on).
        burst = max(burst_at(window, policy, t), least_burst(window))
        begins = line_at(line, t) + max(0.0, burst - line.ahead)
        return max(begins, line_at(line, t + reads) + burst - line.ahead) + large

    begins, starts = line.drawn_at, allowed(line.drawn_at)
    # Between these times, the allowed usage consists of convex pieces. So a straight line that is above it at each of
    # these times is above it everywhere.
    bends = [line.resets_at - reads, line.resets_at, *_bends(standing)]
    steepest = max(((allowed(t) - starts) / (t - begins) for t in bends if begins < t <= line.resets_at), default=0.0)
    if not starts < limit or steepest <= 0:
        return None
    left = [(each, worth(each, window, each.left(now))) for each in standing.authorizations]
    lift = sum(amount for _, amount in left)
    pace = PaceAllowance(
        from_at=begins,
        from_amount=starts,
        until_at=min(line.resets_at, begins + (limit - starts) / steepest),
        until_amount=limit,
        lift=lift,
        # With several authorizations, a new allowance is sent when the first one ends.
        lift_until=min((each.until for each, amount in left if amount > 0), default=0.0),
    )
    return pace if pace.is_sane else None


def _bends(standing: WindowState) -> list[float]:
    """Return when the burst begins to shrink, and when it reaches zero."""
    window = standing.window
    if window.resets_at is None or window.length is None:
        return []
    return [window.resets_at - window.length, window.resets_at]
