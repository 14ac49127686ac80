"""The check whether a demand fits a window, how much is missing, and when it will fit.

The check against the pace uses the amount that 80 of 100 such tasks stay within. The check against the limit uses an
amount that such tasks rarely exceed, so that expensive tasks do not use up a window early.

Pure; times are seconds since the epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from budget.windows.even_spread_line import DAY_S, PacePolicy, Window, burst_at, least_burst, next_turn, redrawn
from budget.windows.running_task_reserve import outer
from budget.windows.window_state import Urgency, WindowState, amount_of, ceiling, utmost, worth

#: The maximum margin for tasks that cost more than projected, as a share of a window.
MARGIN = 0.1
#: The last part of a window, in which that margin shrinks to zero.
ENDING = 0.03
#: The parts of a window between which the required quantile rises, and its range in steps beyond the p90
#: (budget.windows.running_task_reserve.outer).
LATE, LATE_STEPS = (0.75, 0.95), (1.0, 3.0)
#: The share of a limit by which equal amounts may differ.
LEAST = 1e-9
#: The longest day in seconds, on which the clock goes back by two hours.
_LONG_DAY_S = 26 * 3_600.0
#: The precision of the time of a fit in seconds, and the maximum number of iterations.
_NEAR_S, _TRIES = 60.0, 24
#: The maximum number of future lines to simulate: more than the days of a year.
_TURNS = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """The projected cost of a task."""

    tokens: float
    """The weighted tokens that 80 of 100 such tasks stay within."""
    usd: float | None = None
    """US dollars; None if the price is unknown."""
    high_tokens: float | None = None
    """The weighted tokens that 90 or 95 of 100 stay within; None for `HIGH_OF_PROJECTED` times `tokens`."""
    high_usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowDemand:
    """The demand of a task on a window."""

    wanted: float
    """The amount that 80 of 100 such tasks stay within, in the window's unit; 0 for nothing or an unknown amount."""
    cost: Cost
    urgency: Urgency
    policy: PacePolicy


def need(window: Window, cost: Cost) -> float | None:
    """Return the projected cost of a task in the window's unit, or None if unknown."""
    return _in_unit(window, cost.tokens, cost.usd)


def short(standing: WindowState, ask: WindowDemand, now: float) -> float:
    """Return the missing amount in the window's unit; at most 0 if the demand fits."""
    return max(short_of_pace(standing, ask, now), short_of_limit(standing, ask, now))


def short_of_pace(standing: WindowState, ask: WindowDemand, now: float) -> float:
    """Return by how much the demand exceeds the ceiling of its urgency."""
    window = standing.window
    free = ceiling(standing, ask.urgency, now, ask.policy) - window.least_use - standing.held
    if ask.wanted <= 0:
        # A task without cost, or of unknown cost, fits if anything is left at all.
        return -free if free > 0 else max(-free, LEAST * window.known_limit)
    return ask.wanted - free - LEAST * window.known_limit


def short_of_limit(standing: WindowState, ask: WindowDemand, now: float) -> float:
    """Return by how much the worst-case cost exceeds the limit."""
    window = standing.window
    if ask.wanted <= 0:
        return -math.inf
    tight = utmost(standing, ask.urgency, now) - window.least_use - standing.held_high
    # Critical work accepts the risk of a higher cost.
    more = 0.0 if ask.urgency == "critical" else margin(standing, ask.cost, ask.wanted, now)
    return ask.wanted + more - tight - LEAST * window.known_limit


def margin(standing: WindowState, cost: Cost, wanted: float, now: float) -> float:
    """Return the amount that a task must leave under the limit beyond its projection.

    The margin is at most half of the rest of an unused window, so that even a task of nearly that size can run.
    Authorizations reduce it: an admin who authorizes accepts the risk.
    """
    window = standing.window
    if not window.hard or not math.isfinite(wanted):
        return 0.0
    high = _in_unit(window, cost.high_tokens, cost.high_usd) if cost.high_tokens is not None else None
    more = outer(wanted, high, _steps(window, now)) - wanted
    kept = min(more, MARGIN * window.known_limit, (window.known_limit - wanted) / 2) * _patience(window, now)
    return max(0.0, kept - sum(worth(one, window, one.left(now)) for one in standing.authorizations))


def spare(standing: WindowState, cost: Cost, wanted: float, now: float) -> float:
    """Return the margin of a task before it shrinks at the end of the window."""
    window = standing.window
    if window.length is None or window.resets_at is None:
        return margin(standing, cost, wanted, now)
    return margin(standing, cost, wanted, min(now, window.resets_at - ENDING * window.length))


def _steps(window: Window, now: float) -> float:
    """Return the required steps beyond the p90. They rise late in a window, which then cannot offset an overrun."""
    if window.length is None or window.resets_at is None:
        return LATE_STEPS[0]
    part = 1 - (window.resets_at - now) / window.length
    rise = min(1.0, max(0.0, (part - LATE[0]) / (LATE[1] - LATE[0])))
    return LATE_STEPS[0] + (LATE_STEPS[1] - LATE_STEPS[0]) * rise


def _patience(window: Window, now: float) -> float:
    """Return the share of the margin to keep: all, until the window is nearly over and the rest would be lost."""
    if window.length is None or window.resets_at is None:
        return 1.0
    return min(1.0, max(0.0, window.resets_at - now) / (ENDING * window.length))


def _in_unit(window: Window, tokens: float | None, usd: float | None) -> float | None:
    if window.unit == "usd":
        return None if usd is None else amount_of(usd, math.inf)
    counted = amount_of(tokens, math.inf)
    if window.unit == "tokens":
        return counted
    per_token = window.per_token
    if per_token is None or not math.isfinite(per_token) or per_token <= 0:
        return None
    return counted * per_token


def opens(standing: WindowState, ask: WindowDemand, now: float) -> float | None:
    """Return when the demand fits if nothing else is spent and running tasks use their reserve.

    Return None if this is unknown or never happens.
    """
    window = standing.window
    if ask.wanted > window.known_limit and not (ask.urgency == "critical" and standing.authorizations):
        return None
    found = _within(standing, ask, now)
    reset, length = standing.line.resets_at, window.length
    if found is not None or reset is None or window.resets_at is None:
        return found
    if length is None:
        return max(reset, now)
    new = replace(window, begins_at=reset, resets_at=reset + length, length_s=length, used=0.0)
    line = redrawn(new, None, reset, ask.policy)
    assert line is not None
    at = _within(WindowState(window=new, line=line), ask, reset)
    return None if at is None else max(at, now)


def _within(standing: WindowState, ask: WindowDemand, now: float) -> float | None:
    """Return when the demand fits within this window, or None."""
    t = now
    for turns in range(_TURNS):
        line = standing.line
        turn, reset = next_turn(standing.window, line, t, ask.policy), line.resets_at
        ends = min((at for at in (turn, reset) if at is not None), default=None)
        if ends is None or ends <= t:
            return None
        lacks = partial(short, standing, ask)
        late = max(t, ends - 1.0)
        if lacks(late) <= 0:
            return _first(lacks, t, late)
        if reset is None or ends >= reset:
            return None
        if not standing.window.knows_reset(ends) and turns:
            # An unknown reset is always a whole length away, so later turns do not bring it closer.
            return None
        earliest = _earliest(standing, ask, t)
        if earliest is not None and ends < earliest < reset:
            ends = next_turn(standing.window, line, earliest, ask.policy) or ends
        window = replace(standing.window, used=standing.window.least_use + standing.held)
        fresh = redrawn(window, line, ends, ask.policy) or line
        standing = replace(standing, window=window, line=fresh, reserved=0.0, reserved_high=None)
        t = ends
    return None


def _earliest(standing: WindowState, ask: WindowDemand, now: float) -> float | None:
    """Return a time before which the demand cannot fit, because no line rises that far in a day, or None if unknown.

    This skips long series of days.
    """
    window, reset = standing.window, standing.line.resets_at
    if window.is_short or reset is None or not window.knows_reset(now):
        return None
    left = sum(worth(one, window, one.left(now)) for one in standing.authorizations)
    free = max(burst_at(window, ask.policy, now), least_burst(window)) + left
    taken = window.least_use + standing.held
    rest = window.known_limit - taken
    if ask.wanted <= free or rest <= 0:
        return None
    return reset - rest / (ask.wanted - free) * (_LONG_DAY_S + ask.policy.borrow * DAY_S) - _LONG_DAY_S


def _first(lacks: Callable[[float], float], low: float, high: float) -> float:
    """Return when a demand that fits at `high`, but not at `low`, begins to fit: within `_NEAR_S` and never too early.

    The search is the Illinois variant of regula falsi, because the missing amount is nearly linear in time.
    """
    over, under = lacks(low), lacks(high)
    if over <= 0:
        return low
    for _ in range(_TRIES):
        if high - low <= _NEAR_S:
            break
        # Aim slightly late, so that the search converges from both sides.
        middle = min(high - _NEAR_S / 4, low + (high - low) * over / (over - under) + _NEAR_S / 4)
        found = lacks(middle)
        if found <= 0:
            high, under = middle, found
            over /= 2
        else:
            low, over = middle, found
            under /= 2
    return high
