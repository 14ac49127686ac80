"""The meter of an event stream: what is sent at once, and what is held back until the ledger row is durable.

An event is sent once it is complete. A client cannot use a partial event, so a cut stream always ends between two
events. Only events larger than sse_splitter.WHOLE_BYTES are sent in parts.
"""

from __future__ import annotations

from egress.usage.meter_interface import UsageReading
from egress.usage.parser_base import Fate, UsageParser
from egress.usage.sse_splitter import WHOLE_BYTES, PieceKind, Splitter, fields

TERMINAL_BYTES = 16 * 1024 * 1024
"""The largest terminal event that is parsed: OpenAI's repeats the whole response. A larger one passes unread."""


class StreamMeter:
    """A Meter (egress.usage.meter_interface) of server-sent events."""

    def __init__(self, dialect: UsageParser, *, whole: int = WHOLE_BYTES, terminal: int = TERMINAL_BYTES) -> None:
        self._dialect = dialect
        self._splitter = Splitter(whole)
        self._terminal_bytes = terminal
        self._fate = Fate.PASS
        """Of the last event."""
        self._held: list[bytes] = []
        self._large: list[bytes] | None = None
        """The parts of a large event that may be the terminal one."""
        self._large_bytes = 0
        self._at_end = True
        """Nothing but the terminal event has come since the response ended."""
        self._overlong = False
        """The terminal event is too large to be read, and further parts of it are still to come."""
        self._released = False
        self._reading: UsageReading | None = None

    @property
    def reading(self) -> UsageReading:
        if self._reading is None:
            self._reading = self._dialect.reading()
        return self._reading

    def feed(self, content: bytes) -> bytes:
        out: list[bytes] = []
        if self._dialect.ended:
            rest = out if self._released else self._held
            for kind, piece in self._splitter.feed(content):
                self._end_with(kind, piece, rest)
            return b"".join(out)
        self._reading = None
        for kind, piece in self._splitter.feed(content):
            self._take(kind, piece, out)
        return b"".join(out)

    def end(self) -> None:
        if self._released or self._dialect.ended:
            return
        self._reading = None
        rest: list[bytes] = []
        if left := self._splitter.drain():
            # Some clients also read a last event without its blank line.
            self._take(PieceKind.EVENT, left, rest)
        if self._large is not None:
            self._take(PieceKind.LAST, b"", rest)
        self._held += rest
        self._dialect.close()

    def break_off(self) -> None:
        """Do nothing: everything that was sent has been counted."""

    def release(self) -> bytes:
        self._released = True
        rest = b"" if self._dialect.ended else self._splitter.drain()
        kept = b"".join((*self._held, *(self._large or ()), rest))
        self._held, self._large = [], None
        return kept

    def _take(self, kind: PieceKind, piece: bytes, out: list[bytes]) -> None:
        if self._dialect.ended:
            self._end_with(kind, piece, self._held)
        elif kind is PieceKind.EVENT:
            self._settle(self._dialect.event(*fields(piece)), piece, out)
        elif kind is PieceKind.IDLE:
            (self._held if self._held else out).append(piece)
        elif kind is PieceKind.AFTER:
            if self._fate is not Fate.HIDE:
                (self._held if self._held else out).append(piece)
        else:
            self._take_part(kind, piece, out)

    def _end_with(self, kind: PieceKind, piece: bytes, out: list[bytes]) -> None:
        """Take the last bytes of the terminal event. Anything after it is dropped, because it is not metered."""
        if self._overlong and kind in (PieceKind.MORE, PieceKind.LAST):
            self._overlong = kind is PieceKind.MORE
            out.append(piece)
            return
        if kind is PieceKind.AFTER and self._at_end:
            out.append(piece)
        self._at_end = False

    def _settle(self, fate: Fate, piece: bytes, out: list[bytes]) -> None:
        self._fate = fate
        if fate is Fate.PASS:
            out += self._held
            self._held = []
            out.append(piece)
        elif fate is not Fate.HIDE:
            self._held.append(piece)

    def _take_part(self, kind: PieceKind, piece: bytes, out: list[bytes]) -> None:
        if kind is PieceKind.HEAD:
            if self._dialect.may_be_last(piece):
                self._large, self._large_bytes = [], 0
            else:
                self._settle(Fate.PASS, b"", out)
        if self._large is None:
            self._dialect.write_unread(piece)
            out.append(piece)
            return
        self._large.append(piece)
        self._large_bytes += len(piece)
        if self._large_bytes > self._terminal_bytes:
            self._held += self._large
            self._large = None
            self._dialect.lost()
            self._dialect.ended = True
            self._overlong = kind is not PieceKind.LAST
        elif kind is PieceKind.LAST:
            whole, self._large = b"".join(self._large), None
            self._settle(self._dialect.event(*fields(whole)), whole, out)
