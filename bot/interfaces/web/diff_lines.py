"""A unified diff as lines with kinds, files and numbers, for colours and for comments. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

DiffKind: TypeAlias = Literal["file", "hunk", "added", "removed", "same"]
#: Maximum number of lines, and of characters of one, on a page.
MOST_LINES: Final = 4_000
LONGEST_LINE: Final = 2_000
_OUTSIDE: Final = ("diff --git ", "index ", "--- ", "+++ ", "new file", "deleted file", "old mode", "new mode",
                   "similarity", "rename ", "copy ", "Binary files")  # fmt: skip
_HUNK: Final = re.compile(r"@@ -([0-9]{1,9})(?:,[0-9]{1,9})? \+([0-9]{1,9})(?:,[0-9]{1,9})? @@")


@dataclass(frozen=True, slots=True)
class DiffLine:
    kind: DiffKind
    text: str
    file: str = ""
    """The file that it is of, as it is called now, or as it was called if it is deleted."""
    old: int | None = None
    """Its number before the change; None: it was added."""
    new: int | None = None
    """Its number after the change; None: it was removed."""

    @property
    def is_of_file(self) -> bool:
        """Whether it is a line of the file, and not one about it."""
        return self.old is not None or self.new is not None


def diff_lines(diff: str) -> tuple[DiffLine, ...]:
    """Return the lines of a diff, at most `MOST_LINES`."""
    made: list[DiffLine] = []
    inside = False  # a removed line can read "-- a", which looks like a file's header
    file, old, new = "", 0, 0
    for line in diff.split("\n")[:MOST_LINES]:
        text = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
        if line.startswith("@@"):
            inside = True
            found = _HUNK.match(line)
            old, new = (int(found[1]), int(found[2])) if found is not None else (0, 0)
            made.append(DiffLine("hunk", text, file))
        elif line.startswith("diff --git ") or (not inside and line.startswith(_OUTSIDE)):
            file = "" if line.startswith("diff --git ") else _file(line) or file
            inside = False
            made.append(DiffLine("file", text, file))
        elif line.startswith("+"):
            made.append(DiffLine("added", text, file, None, new if inside else None))
            new += 1
        elif line.startswith("-"):
            made.append(DiffLine("removed", text, file, old if inside else None, None))
            old += 1
        elif inside and line.startswith(" "):
            made.append(DiffLine("same", text, file, old, new))
            old, new = old + 1, new + 1
        else:
            made.append(DiffLine("same", text, file))
    return tuple(made)


def _file(header: str) -> str | None:
    """Return the path that a line such as ``+++ b/x`` names, or None. Git quotes an unusual one, and it stays so."""
    if not header.startswith(("--- ", "+++ ")):
        return None
    path = header[4:].rstrip("\t\r")
    if path == "/dev/null":
        return None
    return re.sub(r'^("?)[ab]/', r"\1", path)
