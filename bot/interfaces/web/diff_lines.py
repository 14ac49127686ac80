"""A unified diff as lines with kinds, for colours. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

DiffKind: TypeAlias = Literal["file", "hunk", "added", "removed", "same"]
#: Maximum number of lines, and of characters of one, on a page.
MOST_LINES: Final = 4_000
LONGEST_LINE: Final = 2_000
_OUTSIDE: Final = ("diff --git ", "index ", "--- ", "+++ ", "new file", "deleted file", "old mode", "new mode",
                   "similarity", "rename ", "copy ", "Binary files")  # fmt: skip


@dataclass(frozen=True, slots=True)
class DiffLine:
    kind: DiffKind
    text: str


def diff_lines(diff: str) -> tuple[DiffLine, ...]:
    """Return the lines of a diff, at most `MOST_LINES`."""
    made: list[DiffLine] = []
    inside = False  # a removed line can read "-- a", which looks like a file's header
    for line in diff.split("\n")[:MOST_LINES]:
        text = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
        if line.startswith("@@"):
            inside = True
            made.append(DiffLine("hunk", text))
        elif line.startswith("diff --git ") or (not inside and line.startswith(_OUTSIDE)):
            inside = False
            made.append(DiffLine("file", text))
        elif line.startswith("+"):
            made.append(DiffLine("added", text))
        elif line.startswith("-"):
            made.append(DiffLine("removed", text))
        else:
            made.append(DiffLine("same", text))
    return tuple(made)
