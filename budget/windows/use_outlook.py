"""What happens to a window if use goes on at the present rate: when it meets the line, and when the pace holds work.

`budget.windows.usage_forecast` answers from similar days what a week will likely use. This answers what is about to
happen, so that people see it before the pace holds anything. Pure; times are seconds since the epoch, and amounts are
in the window's unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from budget.windows.even_spread_line import PacePolicy, line_at, next_turn, redrawn
from budget.windows.overrun_allowance import overrun
from budget.windows.usage_forecast import Use, amount_in
from budget.windows.window_state import Urgency, WindowState, ceiling

#: The least number of seconds that the present rate is taken from. Use is known by the hour, so it is up to one more.
RECENT_S = 7_200.0
#: How far ahead a window without an end is looked at, in seconds.
LONGEST_S = 31 * 86_400.0
_HOUR = 3_600.0
#: The maximum number of lines to look ahead: a line of a long window is redrawn each day.
_LINES = 32
#: The number of moments of a line that are looked at, and how precise the found time is, in seconds.
_STEPS, _NEAR_S = 16, 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class UseOutlook:
    """The times at which use reaches something; None: not before the reset, or not within `LONGEST_S` without one."""

    rate: float
    """Use per second."""
    at_reset: float | None
    """None: there is no reset, or its time is unknown."""
    meets_line_at: float | None
    holds_at: float | None
    """When work of normal urgency no longer begins."""
    throttles_at: float | None
    """When requests of running work are held."""
    meets_limit_at: float | None


def present_rate(standing: WindowState, history: Sequence[Use], now: float) -> float | None:
    """Return the use per second in the last hours, or None if the window's unit cannot be counted.

    Args:
        standing: the state of the window.
        history: the hourly use of the window's scope.
        now: seconds since the epoch.
    """
    begin = (now - RECENT_S) // _HOUR * _HOUR
    recent = [amount_in(each, standing.window) for each in history if begin <= each.at <= now]
    if any(each is None for each in recent) or (standing.window.unit == "share" and standing.window.per_token is None):
        return None
    rate = sum(each for each in recent if each is not None) / (now - begin)
    return rate if math.isfinite(rate) and rate >= 0 else None


def outlook(standing: WindowState, rate: float, now: float, policy: PacePolicy) -> UseOutlook | None:
    """Return what happens at this rate, or None if the use is unknown."""
    used, window = standing.window.known_use, standing.window
    if used is None:
        return None
    reset = window.resets_at if window.resets_at is not None and window.resets_at > now else None
    left = window.known_limit - used
    full = now if left <= 0 else now + left / rate if rate > 0 else math.inf
    return UseOutlook(
        rate=rate,
        at_reset=None if reset is None else used + rate * (reset - now),
        meets_line_at=_first(standing, rate, now, policy, _line),
        holds_at=held_from(standing, rate, 0.0, now, policy),
        throttles_at=_first(standing, rate, now, policy, _allowance),
        meets_limit_at=full if full < (now + LONGEST_S if reset is None else reset) else None,
    )


def held_from(
    standing: WindowState, rate: float, wanted: float, now: float, policy: PacePolicy, *, urgency: Urgency = "normal"
) -> float | None:
    """Return when work with this projected use no longer begins, or None if it does until the reset."""

    def begins(at: WindowState, t: float, policy: PacePolicy) -> float:
        return ceiling(at, urgency, t, policy) - at.held - wanted

    return _first(standing, rate, now, policy, begins)


def _line(standing: WindowState, t: float, policy: PacePolicy) -> float:
    return line_at(standing.line, t) if _is_spread(standing) else math.inf


def _allowance(standing: WindowState, t: float, policy: PacePolicy) -> float:
    pace = overrun(standing, t, policy)
    allowed = None if pace is None else pace.at(t)
    return standing.window.known_limit if allowed is None else allowed


def _is_spread(standing: WindowState) -> bool:
    line = standing.line
    return line.resets_at is not None and (line.level or 0.0) < line.limit


def _first(
    standing: WindowState,
    rate: float,
    now: float,
    policy: PacePolicy,
    bound: Callable[[WindowState, float, PacePolicy], float],
) -> float | None:
    """Return the first time at which the use is at a bound; None if that is not before the reset."""
    used = standing.window.known_use
    if used is None:
        return None

    def beyond(at: WindowState, t: float) -> bool:
        return used + rate * (t - now) >= bound(at, t, policy)

    if beyond(standing, now):
        return now
    if rate <= 0:
        return None
    for at, begin, end in _lines(standing, rate, now, policy):
        before = begin
        for step in range(_STEPS + 1):
            t = begin + (end - begin) * step / _STEPS
            if beyond(at, t):
                found = _bisected(lambda t, at=at: beyond(at, t), before, t)  # type: ignore[misc]
                return found if found < (standing.window.resets_at or math.inf) else None
            before = t
    return None


def _lines(
    standing: WindowState, rate: float, now: float, policy: PacePolicy
) -> Iterator[tuple[WindowState, float, float]]:
    """Yield the state under each line up to the reset, with the begin and the end of that line."""
    used = standing.window.least_use
    end = standing.window.resets_at if standing.window.resets_at is not None else standing.line.resets_at
    if end is None:
        end = now + LONGEST_S
    t = now
    for _ in range(_LINES):
        turn = next_turn(standing.window, standing.line, t, policy) if _is_spread(standing) else None
        until = min(end, turn if turn is not None and turn > t else end)
        # Just before its end, because a line that is due grants nothing more.
        yield standing, t, max(t, until - 1.0 if until < end else until)
        if until >= end:
            return
        window = replace(standing.window, used=used + rate * (until - now))
        standing = replace(standing, window=window, line=redrawn(window, standing.line, until, policy) or standing.line)
        t = until


def _bisected(holds: Callable[[float], bool], low: float, high: float) -> float:
    while high - low > _NEAR_S:
        middle = (low + high) / 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
