"""What tests of queries share."""

from __future__ import annotations

import random

import pytest


@pytest.fixture
def chance() -> random.Random:
    """The random choices of a test; its seed is printed."""
    seed = random.randrange(10**6)
    print("seed", seed)
    return random.Random(seed)
