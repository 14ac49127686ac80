"""How far work that was let begin may get ahead of the line, before the egress holds it. Pure; times are seconds since
the epoch.

What begins is measured against the line (budget.windows.pace_admission). What is under way may cost more than was
projected, and is not stopped at the line for that; but a turn that never ends would use up a week on one day. So what
is used may be ahead of the line by a day's worth (of short windows: a fifth's), beside the burst and what is
authorized. That, too, is a straight line, and ends where it meets the limit: it can be told once and held by who keeps
time alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from budget.windows.even_spread_line import JITTER_S, burst_at, least_burst, line_at
from budget.windows.large_task_accrual import is_large, turn_s
from budget.windows.window_state import worth

if TYPE_CHECKING:
    from budget.windows.even_spread_line import PacePolicy
    from budget.windows.window_state import WindowState


@dataclass(frozen=True, kw_only=True, slots=True)
class PaceAllowance:
    """What may be used by when, straight up to the limit; after that, and long before it, the limit alone holds."""

    from_at: float
    from_amount: float
    until_at: float
    until_amount: float
    """The limit."""
    lift: float = 0.0
    """So much more may be used: what is left of authorizations,"""
    lift_until: float = 0.0
    """until then."""

    @property
    def is_sane(self) -> bool:
        """Whether it rises, between numbers: what does not is no pace."""
        numbers = (self.from_at, self.from_amount, self.until_at, self.until_amount, self.lift, self.lift_until)
        return (
            all(map(math.isfinite, numbers))
            and self.from_at < self.until_at
            and self.from_amount < self.until_amount
            and self.lift >= 0
        )

    def at(self, t: float) -> float | None:
        """Return what may be used by `t`; None: there is no pace then.

        So it is, too, where it begins in what is the future: then a clock was set, and no one knows what was meant.
        """
        if not self.from_at - JITTER_S <= t < self.until_at:
            return None
        part = max(0.0, (t - self.from_at) / (self.until_at - self.from_at))
        lift = self.lift if t < self.lift_until else 0.0
        return self.from_amount + (self.until_amount - self.from_amount) * part + lift

    def passes(self, amount: float, t: float) -> float:
        """When, from `t` on, more than this amount may be used, if nothing else is."""
        lifted = self._reaches(amount - self.lift)
        return max(t, lifted if lifted < self.lift_until else self._reaches(amount))

    def without_lift(self) -> PaceAllowance:
        """Return the same, with nothing authorized."""
        return replace(self, lift=0.0, lift_until=0.0)

    def _reaches(self, amount: float) -> float:
        part = (amount - self.from_amount) / (self.until_amount - self.from_amount)
        return self.from_at + (self.until_at - self.from_at) * min(1.0, max(0.0, part))


def overrun(standing: WindowState, now: float, policy: PacePolicy) -> PaceAllowance | None:
    """Return what work under way may use by when, in the window's unit; None: as much as the limit lets it.

    It depends on the line that stands and on what is under way, and not on what is used or on `now`, but for what is
    authorized then. It is never lower than what work may begin within (`budget.windows.window_state.ceiling`). A large
    task under way (`budget.windows.large_task_accrual`) adds what it was projected to use. It never passes the limit
    and what is authorized beyond it. While a critical task is under way, the limit alone holds.
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
        # Never less than what work may begin within (budget.windows.even_spread_line.burst_on).
        burst = max(burst_at(window, policy, t), least_burst(window))
        begins = line_at(line, t) + max(0.0, burst - line.ahead)
        return max(begins, line_at(line, t + reads) + burst - line.ahead) + large

    begins, starts = line.drawn_at, allowed(line.drawn_at)
    # Between these moments it is made of straight pieces that bend upwards, so that one which is over all of them is
    # over everything.
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
        # Whoever has more than one is told again when the first is over.
        lift_until=min((each.until for each, amount in left if amount > 0), default=0.0),
    )
    return pace if pace.is_sane else None


def _bends(standing: WindowState) -> list[float]:
    """Return when the burst begins to shrink, and when nothing is left of it."""
    window = standing.window
    if window.resets_at is None or window.length is None:
        return []
    return [window.resets_at - window.length, window.resets_at]
