"""The state of a window: its line, its reservations and authorizations, the resulting ceiling, and its figures.

`budget`, `pace`, reports, alerts, `tasks` and the dispatcher read the same state. Only this module computes what is
used, left and allowed, and `budget.amounts` formats it. An unknown amount is None and never 0.

Pure; times are seconds since the epoch, and amounts are in the window's unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from budget.amounts import Unit
from budget.windows.even_spread_line import (
    DAY_S,
    Cause,
    Certainty,
    EvenSpreadLine,
    LastSeen,
    PacePolicy,
    Window,
    burst_on,
    line_at,
    redrawn,
)

Urgency: TypeAlias = Literal["low", "normal", "high", "critical"]
State: TypeAlias = Literal["open", "used up"]

#: The usage of authorizations is recorded in steps of this share of the limit.
STEP = 0.002
#: The maximum amount, so that sums remain finite.
MOST = 1e300


@dataclass(frozen=True, kw_only=True, slots=True)
class PaceAuthorization:
    """A permission to spend faster than the pace until a time. Spending beyond line and burst uses it up."""

    id: str
    scope: str
    unit: Unit
    amount: float
    granted_at: float
    until: float
    drawn: float = 0.0
    """The part of the amount that was used up before the current line was drawn."""

    def left(self, now: float) -> float:
        """Return the amount that was left when the current line was drawn; 0 before the grant and after the end."""
        if not self.granted_at <= now < self.until or not math.isfinite(self.amount):
            return 0.0
        return max(0.0, self.amount - max(0.0, self.drawn))


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowState:
    """A window, its line, and its reservations."""

    window: Window
    line: EvenSpreadLine
    reserved: float = 0.0
    """The remaining usage of running tasks, in the window's unit."""
    authorizations: Sequence[PaceAuthorization] = ()
    """The authorizations for the window's scope."""
    reserved_high: float | None = None
    """The remaining usage by the high quantile; None for `reserved`."""
    under_way: int = 0
    """The number of running tasks that draw on the window."""
    largest: float = 0.0
    """The largest projected usage of these tasks when they began."""
    kept: float = 0.0
    """The amount per second of the line's rise that is kept for a large task. High urgency includes it in its
    look-ahead."""
    critical: bool = False
    """Whether one of these tasks is of critical urgency, so that only the limit holds it."""

    @property
    def held(self) -> float:
        """The reserved amount, at least 0."""
        return amount_of(self.reserved)

    @property
    def held_high(self) -> float:
        """The reserved amount by the high quantile."""
        return max(self.held, amount_of(self.reserved_high))

    @property
    def is_busy(self) -> bool:
        """Whether any task runs on the window."""
        return self.under_way > 0 or self.held > 0


def ceiling(standing: WindowState, urgency: Urgency, now: float, policy: PacePolicy) -> float:
    """Return the maximum of usage plus reservations at `now`, in the window's unit."""
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
    """Return the largest projected cost of a task that may begin now, in the window's unit; at least 0.

    If the usage is unknown, one task runs at a time, and without any observation it may have any size.
    """
    window = standing.window
    free = max(0.0, ceiling(standing, urgency, now, policy) - window.least_use - standing.held)
    if window.known_use is not None:
        return free
    if standing.is_busy or not free:
        return 0.0
    return free if window.reckoned is not None else max(0.0, window.known_limit - window.least_use)


def utmost(standing: WindowState, urgency: Urgency, now: float) -> float:
    """Return the absolute maximum of the usage."""
    window = standing.window
    if urgency != "critical" or window.is_quota:
        return window.known_limit
    authorized = (one for one in standing.authorizations if one.left(now) > 0)
    return window.known_limit + sum(worth(one, window, one.amount) for one in authorized)


def worth(authorization: PaceAuthorization, window: Window, amount: float) -> float:
    """Convert an amount of an authorization to the window's unit; 0 if no conversion is known."""
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
    """Redraw the line if it is due, and record the used part of the authorizations.

    The usage of authorizations is also recorded between regular lines, in steps of `STEP`, and the line is redrawn from
    there. So waiting gives none of it back. A new authorization causes a new line.

    Returns:
        The new state, or None if nothing changes.
    """
    window, line = standing.window, standing.line
    used = window.least_use
    beyond = 0.0
    if line.known:
        paced = line_at(line, now) + max(0.0, burst_on(line, window, policy, now) - line.ahead)
        beyond = max(0.0, used - min(paced, max(line.limit, line.drawn_used)))
    if cause is None and any(line.drawn_at < one.granted_at <= now for one in standing.authorizations):
        cause = "authorization"
    taken: list[PaceAuthorization] = []
    rest = beyond
    for authorization in sorted(standing.authorizations, key=lambda one: (one.until, one.id)):
        # Spending before the grant does not count: the line is redrawn and counts from then on.
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
        # The authorized part must not count against the burst as well.
        fresh = replace(fresh, ahead=max(0.0, fresh.ahead - booked))
    return replace(standing, line=fresh, authorizations=tuple(taken))


def amount_of(value: float | None, otherwise: float = 0.0) -> float:
    """Return a finite number of at least 0, or `otherwise` if `value` is none."""
    return otherwise if value is None or not math.isfinite(value) else max(0.0, value)


def _borrowed(window: Window, line: EvenSpreadLine, now: float, policy: PacePolicy) -> float:
    """Return the seconds by which high urgency reads the line ahead: a share of a day or of the remaining time."""
    if line.resets_at is None:
        return 0.0
    day = window.length / 5 if window.length is not None and window.is_short else DAY_S
    return policy.borrow * max(0.0, min(day, line.resets_at - now))


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The current figures of a window in its unit: tokens, US dollars, or shares (1.0 is the whole window)."""

    key: str
    scope: str
    unit: Unit
    limit: float
    used: float | None
    """The usage; None if unknown."""
    at_least: float | None
    """The certain minimum of an unknown usage; None if that is unknown too, or if `used` is known."""
    last_seen: LastSeen | None
    """The last observation, if the usage is unknown."""
    reserved: float | None
    """The remaining usage of running tasks; None if it is in tokens and the share per token is unknown."""
    line: float | None
    """The usage that the pace allows by now; None if the whole limit may be used at any time."""
    ahead: float | None
    """How far the usage is ahead of the line; negative if behind. None without a line or a known usage."""
    may_use_now: float | None
    """The projected cost with which work of normal urgency may begin now. None while the usage is unknown, so that one
    task runs at a time."""
    authorized: float
    """The rest of the authorizations."""
    begins_at: float | None
    resets_at: float | None
    certainty: Certainty
    """The source of the reset time."""
    drawn_at: float
    """When the line was drawn."""

    @property
    def remaining(self) -> float | None:
        """The amount that is neither used nor reserved; None if unknown."""
        if self.used is None or self.reserved is None:
            return None
        return max(0.0, self.limit - self.used - self.reserved)

    @property
    def state(self) -> State | None:
        """Whether anything is left of the limit; None if unknown."""
        return None if self.used is None else "used up" if self.used >= self.limit else "open"

    @property
    def least(self) -> float:
        """The usage or its certain minimum; 0 if unknown. It only orders windows and is never shown."""
        return self.used if self.used is not None else self.at_least or 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedLimit:
    """The egress's current count of a limit, in the limit's unit."""

    used: float
    """The usage; at least what the register knows, if everything was copied."""
    reserved: float
    """The reservations of open requests."""


def figures(standing: WindowState, now: float, policy: PacePolicy, gate: CountedLimit | None = None) -> Figures:
    """Return the figures of a window.

    Args:
        standing: the state of the window, with its current line.
        now: seconds since the epoch.
        policy: the pace policy.
        gate: the egress's count; None if the egress does not hold this window or was not asked.
    """
    if gate is not None and standing.window.known_use is not None:
        # Most open requests belong to running tasks, so the two reservations must not be added.
        used, held = max(standing.window.known_use, gate.used), max(standing.held, gate.reserved)
        standing = replace(standing, window=replace(standing.window, used=used), reserved=held)
    window, line = standing.window, standing.line
    used_now = window.known_use
    paced = line.resets_at is not None and (line.level or 0.0) < line.limit
    even = line_at(line, now) if paced else None
    begins_at = window.begins_at
    if begins_at is None and window.resets_at is not None and window.length is not None:
        begins_at = window.resets_at - window.length
    unpriced = standing.under_way > 0 and window.unit == "share" and window.per_token is None
    return Figures(
        key=window.key,
        scope=window.scope,
        unit=window.unit,
        limit=window.known_limit,
        used=used_now,
        at_least=window.surely,
        last_seen=window.last_seen,
        reserved=None if unpriced else standing.held,
        line=even,
        ahead=None if used_now is None or even is None else used_now - even,
        may_use_now=None if used_now is None else admissible(standing, "normal", now, policy),
        authorized=sum(worth(each, window, each.left(now)) for each in standing.authorizations),
        begins_at=begins_at,
        resets_at=window.resets_at,
        certainty=window.certainty,
        drawn_at=line.drawn_at,
    )
