"""The check whether a demand fits a window, and how much is missing. Pure; times are seconds since the epoch.

The check against the pace uses the amount that 80 of 100 such tasks stay within. The check against the limit uses an
amount that such tasks rarely exceed, so that expensive tasks do not use up a window early.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from budget.windows.even_spread_line import PacePolicy, Window
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
