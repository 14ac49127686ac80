"""The remaining usage of running tasks. Pure; amounts are weighted tokens.

The projection minus the usage is not enough: a task beyond its projection is not nearly done, but a long one that
continues.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from budget.windows.window_state import amount_of

#: The high quantile as a multiple of the p80 if only that is known, taken from observed costs.
HIGH_OF_PROJECTED = 1.6
#: The maximum ratio of the two quantiles.
_WIDEST = 1e6
#: The additional usage of a task beyond its projection, as a share of its usage so far.
GOES_ON = 0.25
#: The same share by the high quantile.
GOES_ON_HIGH = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReservedTask:
    """A running task."""

    projected: float
    """The amount that 80 of 100 such tasks stay within."""
    used: float
    """The usage so far."""
    high: float | None = None
    """The amount that 90 or 95 of 100 stay within; None for `HIGH_OF_PROJECTED` times `projected`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reserve:
    """The remaining usage."""

    projected: float
    high: float
    """The amount that is rarely exceeded."""


def outer(projected: float, high: float | None, steps: float = 2.0) -> float:
    """Return the amount that such tasks rarely exceed.

    Args:
        projected: the amount that 80 of 100 stay within.
        high: the amount that 90 of 100 stay within; None if unknown.
        steps: the distance beyond `high`, in steps of the ratio between the two, since widely spread costs have a
            longer tail. For a log-normal distribution, one step is the p96, two are the p98, three the p99.5.
    """
    if high is None or not math.isfinite(high):
        return projected * HIGH_OF_PROJECTED
    if not 0 < projected < high:
        return projected
    return high * math.pow(min(high / projected, _WIDEST), steps)


def reserve(tasks: Iterable[ReservedTask]) -> Reserve:
    """Return the remaining usage of these tasks together."""
    return together(still(task) for task in tasks)


def still(task: ReservedTask) -> Reserve:
    """Return the remaining usage of one task."""
    projected, used = amount_of(task.projected), amount_of(task.used)
    rest = projected - used if used < projected else GOES_ON * used
    high = max(outer(projected, task.high) - used, GOES_ON_HIGH * used if used >= projected else 0.0, rest)
    return Reserve(projected=rest, high=high)


def together(parts: Iterable[Reserve]) -> Reserve:
    """Return the remaining usage of several tasks.

    They are not all long ones at once, so their margins add up like those of independent costs.
    """
    total = squares = 0.0
    for part in parts:
        total += part.projected
        squares += (part.high - part.projected) ** 2
    return Reserve(projected=total, high=total + math.sqrt(squares))
