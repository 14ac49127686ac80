"""Texts that are too long for one message, in pieces: pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from connectors.discord.json_values import clean
from connectors.discord.message_conversion import LONGEST
from connectors.discord.table_rendering import redrawn

_FENCE = re.compile(r" {0,3}(`{3,10}|~{3,10})([^`]*)")
_LANGUAGE = re.compile(r"\S{0,20}")
#: Characters for which a line is cut sooner, so that it is between words.
_SOONER = 30

WANTED_PARTS = 3
"""Messages that the longest text takes which is said as text."""
MOST_PARTS = 4


def in_parts(text: str) -> list[str]:
    """Return the text as messages, with its tables drawn."""
    found = split(redrawn(text), most=WANTED_PARTS)
    if len(found) > WANTED_PARTS:
        found = split(text, most=WANTED_PARTS)  # tables that are drawn take more room
    # What is said has been made to fit; what was not loses its end rather than fill the room.
    return found[:MOST_PARTS]


def split(text: str, limit: int = LONGEST, *, most: int | None = None) -> list[str]:
    """Return the text in pieces of at most `limit` characters, at least one of them. Characters are code points, as
    Discord counts them.

    It is split between lines. A fenced block that fits into one piece stays whole; a longer one is closed at the end of
    a piece and opened again in the next. Where that makes more than `most` pieces, each is filled to its end instead.
    """
    whole = clean(text).strip("\n")
    found = [each for each in _joined(_blocks(whole, limit), limit) if each.strip()] or [""]
    return found if most is None or len(found) <= most else _filled(whole, limit)


def _joined(parts: Iterable[str], limit: int) -> list[str]:
    """Return the parts on lines of their own, as many in each piece as fit."""
    pieces: list[str] = []
    piece = ""
    for part in parts:
        if piece and len(piece) + 1 + len(part) > limit:
            pieces.append(piece)
            piece = part
        else:
            piece = f"{piece}\n{part}" if piece else part
    return [*pieces, piece]


def _blocks(text: str, limit: int) -> list[str]:
    """Lines and whole fenced blocks, none longer than the limit."""
    blocks: list[str] = []
    lines = text.split("\n")
    place = 0
    while place < len(lines):
        opened = _FENCE.fullmatch(lines[place])
        if opened is None:
            blocks += _cut(lines[place], limit)
            place += 1
            continue
        fence = opened[1]
        end = place + 1
        while end < len(lines) and not _closes(fence, lines[end]):
            end += 1
        whole = "\n".join(lines[place : end + 1])
        if len(whole) <= limit:
            blocks.append(whole)
        else:
            first, inside = _opening(opened)
            blocks += _fenced([*inside, *lines[place + 1 : end]], first, fence, limit)
        place = end + 1
    return blocks


def _fenced(lines: list[str], first: str, fence: str, limit: int) -> list[str]:
    room = limit - len(first) - len(fence) - 2
    cut = (part for line in lines for part in _cut(line, room))
    return [f"{first}\n{inside}\n{fence}" for inside in _joined(cut, room)]


def _cut(line: str, limit: int) -> list[str]:
    """Return a line in parts, between words where that is possible."""
    parts = []
    while len(line) > limit:
        space = line.rfind(" ", limit // 2, limit)
        end = space if space > 0 else limit
        parts.append(line[:end])
        line = line[end:].lstrip(" ") if space > 0 else line[end:]
    return [*parts, line]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Block:
    """A fenced block."""

    opening: str
    fence: str


@dataclass(kw_only=True, slots=True)
class _Pieces:
    """Pieces that are filled one after the other."""

    limit: int
    done: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    block: _Block | None = None
    """That which the last line is in."""

    def room(self, block: _Block | None) -> int:
        """Return how long a line in `block` may be, to be put into this piece."""
        used = sum(len(line) + 1 for line in self.lines)
        if self.block is not None and self.block is not block:
            used += len(self.block.fence) + 1
        if block is not None:
            used += len(block.fence) + 1 + (len(block.opening) + 1 if block is not self.block else 0)
        return self.limit - used

    def put(self, line: str, block: _Block | None) -> None:
        if block is not self.block:
            self._leave()
            self.block = block
            if block is not None:
                self.lines.append(block.opening)
        self.lines.append(line)

    def finish(self) -> None:
        self._leave()
        self.done.append("\n".join(self.lines))
        self.lines.clear()

    def _leave(self) -> None:
        if self.block is not None:
            self.lines.append(self.block.fence)
            self.block = None


def _filled(text: str, limit: int) -> list[str]:
    """As few pieces as may be: a line is cut where a piece is full."""
    pieces = _Pieces(limit=limit)
    for each, block in _contents(text):
        line = each
        while len(line) > (room := pieces.room(block)):
            if room > 0:
                space = line.rfind(" ", max(1, room - _SOONER), room)
                end = space if space > 0 else room
                pieces.put(line[:end], block)
                line = line[end:]
            pieces.finish()
        pieces.put(line, block)
    pieces.finish()
    return [each for each in pieces.done if each.strip()] or [""]


def _contents(text: str) -> Iterator[tuple[str, _Block | None]]:
    """Lines, and the fenced block that each is in; without those that open and close a block."""
    block: _Block | None = None
    for line in text.split("\n"):
        opened = _FENCE.fullmatch(line)
        if block is not None and _closes(block.fence, line):
            block = None
        elif block is None and opened is not None:
            first, inside = _opening(opened)
            block = _Block(opening=first, fence=opened[1])
            for each in inside:
                yield each, block
        else:
            yield line, block


def _opening(opened: re.Match[str]) -> tuple[str, list[str]]:
    """Return a block's first line to be written again, and of it what names no language: it belongs into the block."""
    words = opened[2].strip()
    return (f"{opened[1]}{words}", []) if _LANGUAGE.fullmatch(words) else (opened[1], [words])


def _closes(fence: str, line: str) -> bool:
    return re.fullmatch(rf" {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}\s*", line) is not None
