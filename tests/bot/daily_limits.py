"""Limits whose line hardly rises while a test runs, at any time of the day and of the year."""

from __future__ import annotations

import time


def limit_of_a_day(tokens: int) -> str:
    """A limit of muster.yaml by which so many tokens may be used on a day."""
    today = time.time() / 86_400
    left, length = max((length - today % length, length) for length in (300, 366))
    return f"{{tokens: {int(tokens * left)}, window: {length}d}}"
