"""The words about agents that could not start."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bot.read_models.fleet import BlockedAgent


def in_words(found: Sequence[BlockedAgent], limit: int = 5) -> list[str]:
    """Return a line for each reason, with the agents that it stops."""
    ordered = sorted(found, key=lambda each: each.reason)
    lines = []
    for reason, each in groupby(ordered, key=lambda each: each.reason):
        names = [one.name for one in each]
        more = f" and {len(names) - limit} more" if len(names) > limit else ""
        lines.append(f"{', '.join(names[:limit])}{more} cannot start. {reason}")
    return lines
