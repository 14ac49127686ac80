"""Tables for monospaced text."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from typing import Final

#: What charts are drawn with: Box Drawing and Block Elements (ambiguous width), Braille Patterns, the middle dot.
_DRAWN: Final = frozenset(
    chr(code) for first, last in ((0x2500, 0x259F), (0x2800, 0x28FF), (0xB7, 0xB7)) for code in range(first, last + 1)
)


def columns(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines with aligned columns. A row without cells is a rule; a NUL in a cell becomes a bar."""
    count = max((len(row) for row in table), default=0)
    widths = [max((width(row[i]) for row in table if i < len(row)), default=0) for i in range(count)]
    rows = []
    for row in table:
        cells = [cell + " " * (widths[i] - width(cell)) for i, cell in enumerate(row)] or ["-" * w for w in widths]
        rows.append("  ".join(cells).replace("\0", "|").rstrip())
    return rows


def width(text: str) -> int:
    """Return the number of terminal columns that `text` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) or sign == "\ufe0f" else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in text
    )


def widest(text: str) -> int:
    """Return the number of columns that `text` takes in the terminal that draws its characters widest.

    Terminals disagree about emoji and, where the language is Chinese, Japanese or Korean, about characters of ambiguous
    width (Unicode Standard Annex 11), such as the lines that a chart is drawn with.
    """
    if text.isascii():
        return len(text)
    return sum(1 if sign == "\ufe0f" else _widest(sign) for sign in text)


def _widest(sign: str) -> int:
    if sign.isascii():
        return 1
    if unicodedata.combining(sign):
        return 0
    if sign in _DRAWN and not _draws_wide():
        return 1
    letter = unicodedata.category(sign)[0] == "L" and unicodedata.east_asian_width(sign) in ("N", "Na", "H", "A")
    return 1 if letter else 2


def _draws_wide() -> bool:
    """Return whether the terminal may draw lines and blocks two columns wide, by the language of the environment."""
    language = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "")
    return language[:2] in ("zh", "ja", "ko")


def aligned(text: str, *, rules: bool = True) -> str:
    """Return `text` with the columns of its Markdown tables aligned; `rules`: with a line below the headings."""
    lines = text.split("\n")
    done: list[str] = []
    table: list[list[str]] = []
    for line in [*lines, None]:
        if line is not None and table and line.startswith("|") and not set(line) - set("|-: "):
            table += [[]] if rules else []
        elif line is not None and line.startswith("| ") and line.endswith("|"):
            table.append([cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")])
        else:
            done += columns(table)
            table = []
            if line is not None:
                done.append(line)
    return "\n".join(done)
