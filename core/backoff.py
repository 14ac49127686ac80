"""How long to pause before trying again: longer each time, and never everybody at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def pause(failures: int, *, first: float, longest: float, rng: Callable[[], float]) -> float:
    """Return seconds to wait after so many failures in a row, at least half of what they would be without chance.

    Args:
        failures: 1 after the first.
        first: the pause after the first failure, at most.
        longest: no pause is longer.
        rng: a number from 0 up to 1.
    """
    whole = min(longest, first * 2.0 ** min(failures - 1, 60))
    return whole * (0.5 + 0.5 * rng())
