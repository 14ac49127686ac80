"""Tables as Discord can show them: its Markdown has none. Pure functions."""

from __future__ import annotations

import re

from core.text_columns import columns, width

#: Letters of a line within a block of code, before Discord's window breaks it.
WIDEST = 76
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^`]*)")
_RULE = re.compile(r" {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*")
_MARKS = re.compile(r"\*\*|`")


def redrawn(text: str) -> str:
    """`text` with its tables (GitHub Flavored Markdown 0.29, section 4.10) as blocks of code with columns; those that
    are too wide for that, as a list."""
    lines = text.split("\n")
    done: list[str] = []
    fence: str | None = None
    place = 0
    while place < len(lines):
        line = lines[place]
        found = _FENCE.fullmatch(line)
        if fence is not None:
            if found is not None and found[1].startswith(fence) and not found[2].strip():
                fence = None
        elif found is not None:
            fence = found[1]
        elif (end := _end(lines, place)) is not None:
            done += _drawn([_cells(line), *(_cells(each) for each in lines[place + 2 : end])])
            place = end
            continue
        done.append(line)
        place += 1
    return "\n".join(done)


def _end(lines: list[str], place: int) -> int | None:
    """Behind the last line of the table that begins here; None: none does."""
    if "|" not in lines[place] or place + 1 >= len(lines):
        return None
    rule = lines[place + 1]
    if "|" not in rule or _RULE.fullmatch(rule) is None or len(_cells(rule)) != len(_cells(lines[place])):
        return None
    end = place + 2
    while end < len(lines) and "|" in lines[end]:
        end += 1
    return end


def _cells(line: str) -> list[str]:
    bare = line.strip().replace("\0", "").replace("\\|", "\0").removeprefix("|").removesuffix("|")
    return [cell.strip() for cell in bare.split("|")]


def _drawn(table: list[list[str]]) -> list[str]:
    plain = [[_MARKS.sub("", cell) for cell in row] for row in table]
    block = columns([plain[0], [], *plain[1:]])
    if all(width(line) <= WIDEST for line in block):
        return ["```", *block, "```"]
    heads = table[0]
    found = []
    for row in table[1:]:
        named = (f"{head}: {cell}" if head else cell for head, cell in zip(heads[1:], row[1:], strict=False) if cell)
        found.append(" · ".join([f"- {row[0]}", *named]).replace("\0", "|"))
    return found or [" · ".join(heads).replace("\0", "|")]
