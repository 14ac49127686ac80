"""The words about agents that could not start."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bot.read_models.fleet import BlockedAgent

#: Agents that are named for one reason.
_NAMED = 5


def in_words(found: Sequence[BlockedAgent]) -> list[str]:
    """Return a line for each reason, with the agents that it stops."""
    ordered = sorted(found, key=lambda each: each.reason)
    lines = []
    for reason, each in groupby(ordered, key=lambda each: each.reason):
        names = [one.name for one in each]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(f"{', '.join(names[:_NAMED])}{more} cannot start. {reason}")
    return lines
