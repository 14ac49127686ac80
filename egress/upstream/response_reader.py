"""A provider's response, read while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from core.errors import MusterError


class UpstreamGone(MusterError):
    """The provider could not be reached, or broke the connection."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent
        """The request may have reached the provider."""


class Unheard(UpstreamGone):
    """The provider closed the connection after a request was written, without sending a byte of a response."""


class ByteSource(Protocol):
    """The connection that supplies a response."""

    def go_on(self) -> None:
        """Resume reading after the buffered content was read."""

    def abort(self) -> None:
        """Break the connection at once. Never waits."""


class Response:
    """A response whose head has arrived. Its content is unframed but still encoded."""

    __slots__ = ("_connection", "_ended", "_gone", "_pieces", "_size", "_waiter", "headers", "raw_headers", "status")

    def __init__(self, connection: ByteSource, status: int, raw_headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.raw_headers = raw_headers
        """As they came."""
        self.headers = _fields(raw_headers)
        """By their names in lower case; those that came more than once are joined (RFC 9110, 5.3)."""
        self._connection: ByteSource | None = connection
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = False
        self._gone: str | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def length(self) -> int | None:
        """The content length that its head announces, or None."""
        said = self.headers.get("content-length")
        return int(said) if said is not None else None

    def at_eof(self) -> bool:
        """Return whether it ended cleanly and all of it was read."""
        return self._ended and not self._pieces

    def read_nowait(self) -> bytes:
        """Return the content that has arrived, or nothing if there is none yet or no more.

        Raises:
            UpstreamGone: the response broke off, and everything before that was read.
        """
        pieces = self._pieces
        if pieces:
            content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._size = 0
            if self._connection is not None:
                self._connection.go_on()
            return content
        if self._gone is not None:
            raise UpstreamGone(f"the provider's response broke off: {self._gone}.", sent=True)
        return b""

    async def readany(self) -> bytes:
        """Wait for the next content and return it, or nothing at the end. Only one reader at a time.

        Raises:
            UpstreamGone: the response broke off.
        """
        content = self.read_nowait()
        while not content and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
            content = self.read_nowait()
        return content

    def abort(self) -> None:
        """Break the connection at once, so that the provider stops generating. Never waits.

        Does nothing if the whole response has arrived.
        """
        connection = self._connection
        if connection is not None:
            self._pieces.clear()
            self.fail("it was left")
            connection.abort()

    def take(self, content: bytes) -> int:
        """Append content, and return how many bytes are unread. The connection calls this."""
        self._pieces.append(content)
        self._size += len(content)
        return self._size

    def end(self) -> None:
        """Mark the response as complete. The connection calls this."""
        self._ended = True
        self._connection = None
        self.wake()

    def fail(self, why: str) -> None:
        """Mark the response as broken off. The connection calls this."""
        if not self._ended and self._gone is None:
            self._gone = why
            self._connection = None
            self.wake()

    def wake(self) -> None:
        """Wake the reader. The connection calls this."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _fields(raw: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, value in raw:
        key = name.decode("latin-1").lower()
        text = value.decode("utf-8", "surrogateescape")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
