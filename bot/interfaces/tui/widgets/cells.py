"""Text in columns of a terminal. Pure.

Texts of agents are hostile: whatever could move the cursor, reorder or hide text, or pass for other text is replaced by
something visible. Nothing here is ever read as markup.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from rich.cells import get_character_cell_size

from bot.text.markdown import shown

#: Marks that may follow a letter; scripts need up to three. More of them would cover the lines above.
_MOST_MARKS: Final = 3
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
#: Variation selectors and the joiner: terminals disagree about the width of what they make.
_JOINING = re.compile("[\u200d\ufe00-\ufe0f]")
_TAB: Final = 4


#: Characters of a text that is remembered: cells are drawn again and again.
_SHORT: Final = 200


def safe(text: str) -> str:
    """Return `text` with everything replaced that a terminal would obey or hide. Line feeds are kept."""
    return _safe_short(text) if len(text) <= _SHORT else _safe(text)


def _safe(text: str) -> str:
    text = shown(text).replace("\t", " " * _TAB)
    if _NOT_ASCII.search(text) is None:
        return text
    return "".join(_bounded_marks(_JOINING.sub("", text)))


_safe_short = lru_cache(maxsize=8_192)(_safe)


def _bounded_marks(text: str) -> Iterator[str]:
    marks = 0
    for sign in text:
        marks = marks + 1 if unicodedata.category(sign) in ("Mn", "Me") else 0
        # A character that is not assigned has no width that one could know.
        if marks > _MOST_MARKS or unicodedata.category(sign) in ("Cn", "Co"):
            yield f"⟨U+{ord(sign):04X}⟩"
        else:
            yield sign


def width_of(text: str) -> int:
    """Return the number of columns of a safe text."""
    return len(text) if text.isascii() else sum(map(get_character_cell_size, text))


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """Return one line of a text in exactly `width` columns; what does not fit is replaced by an ellipsis."""
    line = safe(" ".join(text[: 4 * width + 80].split()))
    size = width_of(line)
    if size > width or len(text) > 4 * width + 80:
        line = f"{_beginning(line, max(0, width - 1))}…"[: max(0, width)] if width > 0 else ""
        size = width_of(line)
    pad = " " * max(0, width - size)
    return pad + line if right else line + pad


def wrapped(text: str, width: int) -> list[str]:
    """Return a safe line in rows of at most `width` columns. Only a space at which it breaks is left out."""
    if width < 1:
        return [text]
    rows: list[str] = []
    rest = text
    at = 0
    while True:
        row = rest[at : at + width] if rest.isascii() else _beginning(rest[at : at + width], width)
        row = row or rest[at : at + 1]
        end = at + len(row)
        if end >= len(rest):
            rows.append(row)
            return rows
        space = row.rfind(" ")
        if rest[end] != " " and space > width // 2:
            row = row[: space + 1]
            end = at + len(row)
        rows.append(row)
        # The space at which a row breaks is the end of the row.
        at = end + 1 if rest[end] == " " and rest[end + 1 : end + 2] not in ("", " ") else end


def _beginning(text: str, width: int) -> str:
    taken = 0
    for place, sign in enumerate(text):
        taken += get_character_cell_size(sign)
        if taken > width:
            return text[:place]
    return text
