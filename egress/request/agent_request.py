"""An agent's HTTP request, and its body while it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from multidict import CIMultiDict


class BrokenBody(Exception):
    """The client sent a body that cannot be read. The message says why."""


class RequestLink(Protocol):
    """The connection of a request, as the code that answers it sees it."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport, or None after the connection was lost."""
        ...

    @property
    def writing_paused(self) -> bool:
        """True while the write buffer is full."""
        ...

    def stay(self, left: Callable[[], None]) -> None:
        """Let the handler continue after the client leaves: call `left` once instead of canceling its task."""
        ...

    async def drain(self) -> None:
        """Wait until the write buffer has room.

        Raises:
            ConnectionResetError: the client has left.
        """
        ...


class Content:
    """The body of one request. One task reads it, in the event loop of the connection."""

    __slots__ = ("_dropped", "_ended", "_error", "_pieces", "_read", "_waiter")

    def __init__(self, read: Callable[[int], None] | None = None) -> None:
        """`read` is called with the number of bytes that were read or dropped."""
        self._read = read
        self._pieces: list[bytes] = []
        self._ended = False
        self._dropped = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """True if nothing more arrives: the body is complete, or it failed."""
        return self._ended or self._error is not None

    def at_eof(self) -> bool:
        """Return whether the body is complete and all of it was read."""
        return self._ended and not self._pieces

    def read_nowait(self) -> bytes:
        """Return the bytes that have arrived, or nothing if there are none yet or no more.

        Raises:
            BrokenBody, ConnectionResetError: the body failed, and everything before that was read.
        """
        pieces = self._pieces
        if pieces:
            content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if self._read is not None:
                self._read(len(content))
            return content
        if self._error is not None:
            raise self._error
        return b""

    async def readany(self) -> bytes:
        """Wait for the next piece and return it, or nothing at the end.

        Raises:
            BrokenBody, ConnectionResetError: the body failed.
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

    def take(self, content: bytes) -> None:
        """Append bytes. The connection calls this."""
        if not self._dropped:
            self._pieces.append(content)
            self._wake()
        elif self._read is not None:
            self._read(len(content))

    def end(self) -> None:
        """Mark the body as complete. The connection calls this."""
        self._ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """Mark the body as failed. The connection calls this."""
        if not self.ended:
            self._error = error
            self._wake()

    def drop(self) -> None:
        """Discard what was not read, and what is still to arrive. The connection calls this."""
        self._dropped = True
        size = sum(map(len, self._pieces))
        self._pieces.clear()
        if size and self._read is not None:
            self._read(size)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class AgentRequest:
    """A request whose head has arrived."""

    __slots__ = (
        "content",
        "content_length",
        "headers",
        "keep_alive",
        "malformed",
        "method",
        "protocol",
        "raw_path",
        "size",
        "version",
    )

    def __init__(
        self,
        protocol: RequestLink,
        *,
        method: str,
        raw_path: str,
        version: tuple[int, int],
        headers: CIMultiDict[str],
        keep_alive: bool,
        content: Content,
        content_length: int | None = None,
        size: int = 0,
        malformed: bool = False,
    ) -> None:
        self.protocol = protocol
        self.method = method
        self.raw_path = raw_path
        """The target, exactly as the client sent it."""
        self.version = version
        self.headers = headers
        self.keep_alive = keep_alive
        """Whether another request may follow on this connection."""
        self.content = content
        self.content_length = content_length
        """The value of Content-Length, or None without one."""
        self.size = size
        """What the head uses of memory, in bytes."""
        self.malformed = malformed
        """The client sent something that is not HTTP. It is queued so that the refusal follows the earlier answers."""
