"""What tasks that are under way may still use. Pure; amounts are weighted tokens.

What was projected less what was used is not enough: a task that has used more than was projected is not nearly done, it
is one of the long ones, and they go on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budget.windows.window_state import amount_of

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The high quantile where only the p80 is known, as a multiple of it: as costs are found.
HIGH_OF_PROJECTED = 1.6
#: A wider spread than this is none.
_WIDEST = 1e6
#: A task that passed its projection is taken to use at least this share of what it used so far once more,
GOES_ON = 0.25
#: and by the high quantile this share.
GOES_ON_HIGH = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReservedTask:
    """A task under way."""

    projected: float
    """What 80 of 100 such tasks stay within."""
    used: float
    """So far."""
    high: float | None = None
    """What 90 or 95 of 100 stay within; None: taken to be `HIGH_OF_PROJECTED` times that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reserve:
    """What may still be used."""

    projected: float
    high: float
    """What hardly passes."""


def outer(projected: float, high: float | None, steps: float = 2.0) -> float:
    """Return what hardly any such task passes.

    Args:
        projected: what 80 of 100 stay within.
        high: what 90 of 100 stay within; None: not known.
        steps: how far beyond that, in steps of what lies between the two, as a ratio: costs that are spread widely have
            the longer tail. Where their logarithms are spread normally, one step is the p96, two the p98, three the
            p99.5.
    """
    if high is None or not math.isfinite(high):
        return projected * HIGH_OF_PROJECTED
    if not 0 < projected < high:
        return projected
    return high * math.pow(min(high / projected, _WIDEST), steps)


def reserve(tasks: Iterable[ReservedTask]) -> Reserve:
    """Return what these tasks together may still use."""
    return together(still(task) for task in tasks)


def still(task: ReservedTask) -> Reserve:
    """Return what one task may still use."""
    projected, used = amount_of(task.projected), amount_of(task.used)
    rest = projected - used if used < projected else GOES_ON * used
    high = max(outer(projected, task.high) - used, GOES_ON_HIGH * used if used >= projected else 0.0, rest)
    return Reserve(projected=rest, high=high)


def together(parts: Iterable[Reserve]) -> Reserve:
    """Return what several may still use: they are not all among the long ones at once, so that their margins add up as
    those of independent costs do."""
    total = squares = 0.0
    for part in parts:
        total += part.projected
        squares += (part.high - part.projected) ** 2
    return Reserve(projected=total, high=total + math.sqrt(squares))
