"""Where a window stands: its line, what is promised of it, what is authorized beyond it; and the ceiling that makes.

Pure; times are seconds since the epoch, amounts in the window's unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from budget.windows.even_spread_line import DAY_S, burst_on, line_at, redrawn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from budget.windows.even_spread_line import Cause, EvenSpreadLine, PacePolicy, Unit, Window

Urgency: TypeAlias = Literal["low", "normal", "high", "critical"]

#: An authorization is written down as used up in steps of this share of the limit.
STEP = 0.002
#: More is not told from this, so that sums stay numbers.
MOST = 1e300


@dataclass(frozen=True, kw_only=True, slots=True)
class Authorization:
    """Leave to spend faster than the pace, until then. It is used up by what is spent beyond line and burst."""

    id: str
    scope: str
    unit: Unit
    amount: float
    granted_at: float
    until: float
    drawn: float = 0.0
    """Of the amount, what was used up before the line that stands was drawn."""

    def left(self, now: float) -> float:
        """Return what of it is not used up by the line that stands; 0 before it is granted and once it is over."""
        if not self.granted_at <= now < self.until or not math.isfinite(self.amount):
            return 0.0
        return max(0.0, self.amount - max(0.0, self.drawn))


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowState:
    """A window, its line, and what is promised of it."""

    window: Window
    line: EvenSpreadLine
    reserved: float = 0.0
    """What live tasks may still use, in the window's unit."""
    authorizations: Sequence[Authorization] = ()
    """Those that hold for the window's scope."""
    reserved_high: float | None = None
    """The same by the high quantile; None: as `reserved`."""
    under_way: int = 0
    """How many live tasks draw on it, whatever they may still use."""
    largest: float = 0.0
    """What the largest of these was projected to use when it began."""
    kept: float = 0.0
    """How much of the line's rise is kept for a large task, a second. High urgency reads it ahead with that."""
    critical: bool = False
    """Whether one of these is of critical urgency, which the limit alone holds."""

    @property
    def held(self) -> float:
        """What is reserved, a number of at least 0."""
        return amount_of(self.reserved)

    @property
    def held_high(self) -> float:
        """The same by the high quantile."""
        return max(self.held, amount_of(self.reserved_high))

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way on it."""
        return self.under_way > 0 or self.held > 0


def ceiling(standing: WindowState, urgency: Urgency, now: float, policy: PacePolicy) -> float:
    """Return what may be used and reserved at `now`, in the window's unit."""
    most = utmost(standing, urgency, now)
    if urgency == "critical":
        return most
    window, line = standing.window, standing.line
    burst = burst_on(line, window, policy, now)
    paced = line_at(line, now) + max(0.0, burst - line.ahead)
    if urgency == "high":
        ahead = _borrowed(window, line, now, policy)
        paced = max(paced, line_at(line, now + ahead) + standing.kept * ahead + burst - line.ahead)
    left = sum(worth(authorization, window, authorization.left(now)) for authorization in standing.authorizations)
    return min(min(paced, window.known_limit) + left, most)


def admissible(standing: WindowState, urgency: Urgency, now: float, policy: PacePolicy) -> float:
    """Return what a task that begins now may be projected to cost, in the window's unit; never negative.

    Where the use is not known: one thing at a time, of any size where nothing was observed of the window.
    """
    window = standing.window
    free = max(0.0, ceiling(standing, urgency, now, policy) - window.least_use - standing.held)
    if window.known_use is not None:
        return free
    if standing.is_busy or not free:
        return 0.0
    return free if window.reckoned is not None else max(0.0, window.known_limit - window.least_use)


def utmost(standing: WindowState, urgency: Urgency, now: float) -> float:
    """Return what nothing passes."""
    window = standing.window
    if urgency != "critical" or window.is_quota:
        return window.known_limit
    authorized = (one for one in standing.authorizations if one.left(now) > 0)
    return window.known_limit + sum(worth(one, window, one.amount) for one in authorized)


def worth(authorization: Authorization, window: Window, amount: float) -> float:
    """Return what an amount of an authorization is in the window's unit; 0 where the one cannot be told from the
    other."""
    if not math.isfinite(amount) or amount <= 0:
        return 0.0
    if authorization.unit == window.unit:
        return min(amount, MOST)
    if authorization.unit == "share":
        return min(amount * window.known_limit, MOST)
    if window.unit == "share" and authorization.unit == "tokens" and window.per_token is not None:
        return min(amount * amount_of(window.per_token), MOST)
    return 0.0


def settled(standing: WindowState, now: float, policy: PacePolicy, *, cause: Cause | None = None) -> WindowState | None:
    """Return the standing with its line redrawn, where that is due, and with what was used up of its authorizations.

    Authorizations are also used up while a line stands: that is written down, and the line drawn from there, in steps
    of `STEP`, so that waiting gives nothing of it back. One that was granted since has the line redrawn.

    Returns:
        None: all stays as it is.
    """
    window, line = standing.window, standing.line
    used = window.least_use
    beyond = 0.0
    if line.known:
        paced = line_at(line, now) + max(0.0, burst_on(line, window, policy, now) - line.ahead)
        beyond = max(0.0, used - min(paced, max(line.limit, line.drawn_used)))
    if cause is None and any(line.drawn_at < one.granted_at <= now for one in standing.authorizations):
        cause = "authorization"
    taken: list[Authorization] = []
    rest = beyond
    for authorization in sorted(standing.authorizations, key=lambda one: (one.until, one.id)):
        # What is beyond the line when it is granted was spent before: the line is redrawn and counts from then on.
        left = authorization.left(now) if authorization.granted_at <= line.drawn_at else 0.0
        whole = worth(authorization, window, left)
        part = min(rest, whole)
        rest -= part
        drawn = authorization.drawn + (left * part / whole if whole > 0 else 0.0)
        taken.append(replace(authorization, drawn=drawn))
    booked = beyond - rest
    if cause is None and booked > STEP * window.known_limit:
        cause = "authorization"
    fresh = redrawn(window, line, now, policy, cause=cause)
    if fresh is None:
        return None
    if booked and fresh.ahead:
        # What was authorized is counted there, and not against the burst as well.
        fresh = replace(fresh, ahead=max(0.0, fresh.ahead - booked))
    return replace(standing, line=fresh, authorizations=tuple(taken))


def amount_of(value: float | None, otherwise: float = 0.0) -> float:
    """Return a number of at least 0; what is none is taken for `otherwise`."""
    return otherwise if value is None or not math.isfinite(value) else max(0.0, value)


def _borrowed(window: Window, line: EvenSpreadLine, now: float, policy: PacePolicy) -> float:
    """By how many seconds high urgency reads the line ahead: of the next day, or of what is left of the window."""
    if line.resets_at is None:
        return 0.0
    day = window.length / 5 if window.length is not None and window.is_short else DAY_S
    return policy.borrow * max(0.0, min(day, line.resets_at - now))
