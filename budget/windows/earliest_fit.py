"""The time at which work will fit a window if nothing else is spent. Pure; times are seconds since the epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from budget.windows.even_spread_line import DAY_S, burst_at, least_burst, next_turn, redrawn
from budget.windows.fit_check import WindowDemand, short
from budget.windows.window_state import WindowState, worth

#: The longest day in seconds, on which the clock goes back by two hours.
_LONG_DAY_S = 26 * 3_600.0
#: The precision of the result in seconds, and the maximum number of iterations.
_NEAR_S, _TRIES = 60.0, 24
#: The maximum number of future lines to simulate: more than the days of a year.
_TURNS = 400


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
