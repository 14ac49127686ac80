"""The lines of a run that say what its agent did at the forge, or was refused. Pure.

A run keeps a bounded number of them. What is only read or refused is kept once, and not beyond a part of the room, so
that an agent cannot crowd out what it wrote.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

#: Lines of a run.
MOST_LINES: Final = 400
#: Of these, lines that changed nothing at the forge.
MOST_WITHOUT_EFFECT: Final = 150
_LONGEST: Final = 200
_MORE: Final = re.compile(r"(\d+) more reads and refusals")


def with_line(lines: Sequence[str], line: str) -> list[str]:
    """Return the lines of a run with one more."""
    line = line[:_LONGEST]
    kept = [each for each in lines if _MORE.fullmatch(each) is None]
    more = sum(int(found[1]) for each in lines if (found := _MORE.fullmatch(each)))
    if not _has_effect(line):
        if line in kept:
            return list(lines)
        if sum(not _has_effect(each) for each in kept) >= MOST_WITHOUT_EFFECT:
            more += 1
        else:
            kept.append(line)
    else:
        kept.append(line)
    # The bound on writes (`write_limits`) is far below this one.
    kept = kept[-MOST_LINES:]
    return [*kept, f"{more} more reads and refusals"] if more else kept


def _has_effect(line: str) -> bool:
    return not line.startswith(("read ", "refused "))
