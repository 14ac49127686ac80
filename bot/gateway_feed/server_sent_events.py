"""Server-sent events (HTML Living Standard, section 9.2.6), read as they arrive. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

#: Maximum size of one event in bytes: that of an answer of the gateway.
LONGEST_EVENT: Final = 64 * 1_048_576


class BrokenStream(ValueError):
    """What arrived cannot be read as events. The message says what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """One event."""

    kind: str
    id: str
    """The id of the last event that had one."""
    data: str


@dataclass(slots=True, kw_only=True)
class EventReader:
    """The events of one stream."""

    longest: int = LONGEST_EVENT
    last_id: str = ""
    _rest: list[bytes] = field(default_factory=list)
    _kept: int = 0
    """Bytes of the event that is not complete."""
    _kind: str = ""
    _data: list[str] = field(default_factory=list)

    @property
    def is_inside(self) -> bool:
        """Whether an event has begun and is not complete."""
        return self._kept > 0

    def feed(self, received: bytes) -> list[StreamEvent]:
        """Return the events that are complete with these bytes.

        Raises:
            BrokenStream: an event is too long, or is no UTF-8.
        """
        *lines, rest = received.split(b"\n")
        events: list[StreamEvent] = []
        for line in lines:
            self._count(len(line))
            whole = b"".join([*self._rest, line])
            self._rest.clear()
            self._take(whole, events)
        if rest:
            self._rest.append(rest)
            self._count(len(rest))
        return events

    def _count(self, size: int) -> None:
        self._kept += size
        if self._kept > self.longest:
            raise BrokenStream(f"an event is longer than {self.longest:,} bytes")

    def _take(self, line: bytes, events: list[StreamEvent]) -> None:
        line = line.removesuffix(b"\r")
        if not line:
            if self._data:
                events.append(StreamEvent(kind=self._kind or "message", id=self.last_id, data="\n".join(self._data)))
            self._kind, self._data, self._kept = "", [], 0
            return
        if line.startswith(b":"):
            if not self._data:
                self._kept = 0
            return
        try:
            name, _, value = line.decode().partition(":")
        except UnicodeDecodeError:
            raise BrokenStream("a line is no UTF-8") from None
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
