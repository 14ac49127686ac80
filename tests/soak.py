"""How long the long forms of tests go on.

`make soak` runs them all. With SOAK_SECONDS the whole run gets that much time: the tests are shuffled by a seed, which
is printed (MUSTER_SEED repeats it), and those that are not begun when the time is over are left out. So are the rest of
the places at which one of them would die.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Iterator, Sequence

import pytest

#: What a test that could go on for ever takes when nobody says otherwise, seconds.
LONG = 120.0

_begun = time.monotonic()


def budget() -> float | None:
    """Seconds for the whole run; None: as long as it takes."""
    given = os.environ.get("SOAK_SECONDS")
    return float(given) if given else None


def share() -> float:
    """Seconds for one test that could go on for ever."""
    total = budget()
    return LONG if total is None else min(LONG, total / 20)


def is_over() -> bool:
    """Whether the run's time is used up."""
    total = budget()
    return total is not None and time.monotonic() - _begun > total


def in_time(places: Sequence[str]) -> Iterator[str]:
    """Yield the first place, and the others until the run's time is used up: then in the order that the seed says."""
    ordered = list(places)
    if budget() is not None:
        random.Random(seed()).shuffle(ordered)
    for number, place in enumerate(ordered):
        if number and is_over():
            print(f"the time is over: {len(ordered) - number} of {len(ordered)} places are left out")
            return
        yield place


def seed() -> str:
    """The seed of this run, a number: given, or fresh. The same for every caller."""
    return os.environ.setdefault("MUSTER_SEED", str(secrets.randbelow(2**32)))


def shuffle(items: list[pytest.Item]) -> None:
    """Put them into the order that the seed says."""
    random.Random(seed()).shuffle(items)
