"""What comparisons of two readers of HTTP share."""

from __future__ import annotations

import random
from itertools import pairwise


def in_pieces(dice: random.Random, said: bytes) -> list[bytes]:
    """Cut what is said as a network could: into bytes, or at some places."""
    if dice.random() < 0.1 and len(said) < 500:
        return [said[place : place + 1] for place in range(len(said))]
    cuts = sorted(dice.randrange(len(said) + 1) for _ in range(dice.choice((0, 0, 1, 3, 10))))
    return [said[begin:end] for begin, end in pairwise([0, *cuts, len(said)]) if begin < end]


def normalized(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers in an order, and in lower case where case means nothing."""
    return sorted(
        (name.lower(), value.lower() if name.lower() == b"transfer-encoding" else value) for name, value in headers
    )
