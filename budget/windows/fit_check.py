"""Whether what is asked of a window fits, and by how much it does not. Pure; times are seconds since the epoch.

Against the pace, work is measured by what 80 of 100 such tasks stay within; against the limit by what hardly any of
them passes, so that tasks that cost more do not end a window early.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budget.windows.running_task_reserve import outer
from budget.windows.window_state import amount_of, ceiling, utmost, worth

if TYPE_CHECKING:
    from budget.windows.even_spread_line import PacePolicy, Window
    from budget.windows.window_state import Urgency, WindowState

#: The margin for tasks that cost more than projected is at most this share of a window.
MARGIN = 0.1
#: In this last part of a window that margin shrinks to nothing.
ENDING = 0.03
#: From the first of these parts of a window to the second the quantile that is asked for rises: in steps beyond p90
#: (budget.windows.running_task_reserve.outer), from the first number to the second.
LATE, LATE_STEPS = (0.75, 0.95), (1.0, 3.0)
#: Amounts that differ by no more than this share of a limit are the same.
LEAST = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a task is projected to cost."""

    tokens: float
    """Weighted; what 80 of 100 such tasks stay within."""
    usd: float | None = None
    """None: no price is known."""
    high_tokens: float | None = None
    """What 90 or 95 of 100 stay within. None: taken to be `HIGH_OF_PROJECTED` times `tokens`."""
    high_usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowDemand:
    """What is asked of a window."""

    wanted: float
    """What 80 of 100 such tasks stay within, in the window's unit; 0: nothing, or that cannot be told."""
    cost: Cost
    urgency: Urgency
    policy: PacePolicy


def need(window: Window, cost: Cost) -> float | None:
    """Return what a task is projected to cost, in the window's unit; None: that cannot be told."""
    return _in_unit(window, cost.tokens, cost.usd)


def short(standing: WindowState, ask: WindowDemand, now: float) -> float:
    """Return by how much it does not fit, in the window's unit; at most 0 if it fits."""
    return max(short_of_pace(standing, ask, now), short_of_limit(standing, ask, now))


def short_of_pace(standing: WindowState, ask: WindowDemand, now: float) -> float:
    """Return by how much the ceiling of its urgency does not cover it."""
    window = standing.window
    free = ceiling(standing, ask.urgency, now, ask.policy) - window.least_use - standing.held
    if ask.wanted <= 0:
        # What is known to cost nothing, or cannot be told, fits where there is anything left at all.
        return -free if free > 0 else max(-free, LEAST * window.known_limit)
    return ask.wanted - free - LEAST * window.known_limit


def short_of_limit(standing: WindowState, ask: WindowDemand, now: float) -> float:
    """Return by how much the limit does not cover what it may cost at worst."""
    window = standing.window
    if ask.wanted <= 0:
        return -math.inf
    tight = utmost(standing, ask.urgency, now) - window.least_use - standing.held_high
    # Critical work takes the risk that it costs more.
    more = 0.0 if ask.urgency == "critical" else margin(standing, ask.cost, ask.wanted, now)
    return ask.wanted + more - tight - LEAST * window.known_limit


def margin(standing: WindowState, cost: Cost, wanted: float, now: float) -> float:
    """Return what a task must leave under the limit beyond its projection.

    At most half of what it would leave of an unused window, so that one that is nearly as large as the window still
    runs some day. Who authorizes takes that risk.
    """
    window = standing.window
    if not window.hard or not math.isfinite(wanted):
        return 0.0
    high = _in_unit(window, cost.high_tokens, cost.high_usd) if cost.high_tokens is not None else None
    more = outer(wanted, high, _steps(window, now)) - wanted
    kept = min(more, MARGIN * window.known_limit, (window.known_limit - wanted) / 2) * _patience(window, now)
    return max(0.0, kept - sum(worth(one, window, one.left(now)) for one in standing.authorizations))


def spare(standing: WindowState, cost: Cost, wanted: float, now: float) -> float:
    """Return the margin of a task, as it is before a window's end gives it up."""
    window = standing.window
    if window.length is None or window.resets_at is None:
        return margin(standing, cost, wanted, now)
    return margin(standing, cost, wanted, min(now, window.resets_at - ENDING * window.length))


def _steps(window: Window, now: float) -> float:
    """Return how far beyond the p90 a task may cost and still must fit: near its end a window cannot make good
    for one."""
    if window.length is None or window.resets_at is None:
        return LATE_STEPS[0]
    part = 1 - (window.resets_at - now) / window.length
    rise = min(1.0, max(0.0, (part - LATE[0]) / (LATE[1] - LATE[0])))
    return LATE_STEPS[0] + (LATE_STEPS[1] - LATE_STEPS[0]) * rise


def _patience(window: Window, now: float) -> float:
    """Return how much of the margin is kept: all of it, until the window is nearly over. What is left then is lost."""
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
