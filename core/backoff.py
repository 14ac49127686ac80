"""Exponential backoff with jitter."""

from __future__ import annotations

from collections.abc import Callable


def pause(failures: int, *, first: float, longest: float, rng: Callable[[], float]) -> float:
    """Return the seconds to wait after consecutive failures: between half of the full pause and all of it.

    Args:
        failures: the number of failures in a row, from 1.
        first: the full pause after the first failure.
        longest: the maximum pause.
        rng: returns a random number from 0 up to 1.
    """
    whole = min(longest, first * 2.0 ** min(failures - 1, 60))
    return whole * (0.5 + 0.5 * rng())
