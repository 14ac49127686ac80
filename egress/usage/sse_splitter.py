"""Splits server-sent events byte for byte (WHATWG HTML, section 9.2.6).

Nothing is decoded or lost: the joined pieces are the input. The split does not depend on how the bytes arrived.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import TypeAlias

WHOLE_BYTES = 1024 * 1024
"""The largest event that is returned in one piece."""

_BOM = b"\xef\xbb\xbf"
_COLON = ord(":")
# Atomic: a CR LF is one line end, never two. The blank line ends at its first character, so that an event that ends in
# CR is not delayed; a following LF is a separate piece.
_END = re.compile(rb"(?>\r\n|\n|\r)[\r\n]")
_LINE_END = re.compile(rb"[\r\n]")
_LINE_ENDS = re.compile(rb"\r\n|\n|\r")
# Not possessive: before Python 3.11.5 a possessive group keeps what a failed branch consumed (CPython issue 106052).
_IDLE = re.compile(rb"(?:[\r\n]+|:[^\r\n]*[\r\n])+")


class PieceKind(Enum):
    """The kind of a piece."""

    EVENT = "event"
    """A whole event, including its blank line."""
    IDLE = "idle"
    """Comments and blank lines between events, and the byte order mark."""
    AFTER = "after"
    """The LF of the CR LF that ended the previous event."""
    HEAD = "head"
    """The first WHOLE_BYTES of a larger event."""
    MORE = "more"
    """A further part of a larger event."""
    LAST = "last"
    """The last part of a larger event."""


Piece: TypeAlias = tuple[PieceKind, bytes]


def fields(event: bytes) -> tuple[bytes, bytes]:
    """Return an event's name (empty if it has none) and its data, whose lines are joined by LF."""
    name, lines = b"", []
    for line in _LINE_ENDS.split(event) if b"\r" in event else event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value[1:] if value[:1] == b" " else value)
        elif field == b"event":
            name = value[1:] if value[:1] == b" " else value
    return name, lines[0] if len(lines) == 1 else b"\n".join(lines)


class Splitter:
    """Splits a stream into pieces. It holds back the beginning of an incomplete event, at most `whole` bytes."""

    def __init__(self, whole: int = WHOLE_BYTES) -> None:
        self._whole = whole
        self._kept = bytearray()
        self._scanned = 0
        """So much of what is kept was looked at, and holds no end."""
        self._begun = False
        self._after_cr = False
        self._tail = b""
        """Of a large event that is being passed: the last byte, which may be half of its end."""
        self._large = False
        self._comment = False
        """In the middle of a large comment."""

    def feed(self, content: bytes) -> Iterator[Piece]:
        """Yield the pieces that these bytes complete. The iterator must be exhausted."""
        scanned = 0
        if self._kept:
            kept = self._kept
            kept += content
            if not self._large and self._begun and not self._complete():
                return
            content, scanned = bytes(kept), self._scanned
            kept.clear()
        self._scanned = 0
        yield from self._cut(content, scanned)

    def drain(self) -> bytes:
        """Remove and return what is held back."""
        rest = bytes(self._kept)
        self._kept.clear()
        self._scanned = 0
        return rest

    def _complete(self) -> bool:
        """Return whether the held bytes contain an end."""
        kept = self._kept
        pattern = _LINE_END if kept[0] == _COLON else _END
        if len(kept) > self._whole or pattern.search(kept, self._scanned):
            return True
        self._scanned = len(kept) - 1
        return False

    def _cut(self, content: bytes, scanned: int) -> Iterator[Piece]:
        place, size = 0, len(content)
        if not self._begun:
            if size < len(_BOM) and _BOM.startswith(content):
                self._kept += content
                return
            self._begun = True
            if content.startswith(_BOM):
                place = len(_BOM)
                yield PieceKind.IDLE, _BOM
        while place < size:
            if self._after_cr:
                self._after_cr = False
                if content[place] == 10:
                    yield PieceKind.AFTER, b"\n"
                    place += 1
                    continue
            if self._large:
                piece = self._further(content, place)
            elif self._comment:
                piece = self._comment_on(content, place)
            elif idle := _IDLE.match(content, place):
                piece = PieceKind.IDLE, idle[0]
            else:
                found = self._next(content, place, max(place, scanned))
                if found is None:
                    self._kept += content[place:] if place else content
                    self._scanned = size - place - 1
                    return
                piece = found
            yield piece
            place += len(piece[1])

    def _next(self, content: bytes, place: int, scanned: int) -> Piece | None:
        """Return the next event or its head, or the head of a large comment; None: it is incomplete."""
        size = len(content) - place
        if content[place] == _COLON:
            if size <= self._whole:
                return None
            self._comment = True
            return PieceKind.IDLE, content[place:]
        found = _END.search(content, scanned, place + self._whole)
        if found is not None:
            self._after_cr = content[found.end() - 1] == 13
            return PieceKind.EVENT, content[place : found.end()]
        if size <= self._whole:
            return None
        head = content[place : place + self._whole]
        self._large, self._tail = True, head[-1:]
        return PieceKind.HEAD, head

    def _further(self, content: bytes, place: int) -> Piece:
        found = _END.search(self._tail + content[place : place + 1])
        end = place + 1 if found else None
        if end is None and (found := _END.search(content, place)):
            end = found.end()
        if end is None:
            self._tail = content[-1:]
            return PieceKind.MORE, content[place:]
        self._large = False
        self._after_cr = content[end - 1] == 13
        return PieceKind.LAST, content[place:end]

    def _comment_on(self, content: bytes, place: int) -> Piece:
        found = _LINE_END.search(content, place)
        if found is None:
            return PieceKind.IDLE, content[place:]
        self._comment = False
        return PieceKind.IDLE, content[place : found.end()]
