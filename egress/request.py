"""A request of an agent, as whoever answers it reads it while it comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import CIMultiDict


class BrokenBody(Exception):
    """The body cannot be read to its end. The message says why."""


class Link(Protocol):
    """The connection on which a request came, as far as its answer needs it."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """None: it is gone."""
        ...

    @property
    def writing_paused(self) -> bool:
        """The client takes nothing at the moment."""
        ...

    def stay(self, left: Callable[[], None]) -> None:
        """Have whoever answers go on when the client leaves. Then `left` is called, once, and nothing is cancelled."""
        ...

    async def drain(self) -> None:
        """Wait until the client has taken enough for more to be written.

        Raises:
            ConnectionResetError: the client is gone.
        """
        ...


class Content:
    """The body of one request. One reader reads it, in the event loop that fills it."""

    __slots__ = ("_dropped", "_ended", "_error", "_pieces", "_read", "_waiter")

    def __init__(self, read: Callable[[int], None] | None = None) -> None:
        """`read` is told how many bytes have been read or dropped."""
        self._read = read
        self._pieces: list[bytes] = []
        self._ended = False
        self._dropped = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Nothing more comes: it is whole, or it broke off."""
        return self._ended or self._error is not None

    def at_eof(self) -> bool:
        """It came to its end in good order, and all of it was read."""
        return self._ended and not self._pieces

    def read_nowait(self) -> bytes:
        """What is here; nothing when it has not come yet, or was all.

        Raises:
            BrokenBody, ConnectionResetError: it broke off, and what came before was read.
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
        """The next piece; nothing at the end.

        Raises:
            BrokenBody, ConnectionResetError: it broke off.
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
        """Of the connection: this came."""
        if not self._dropped:
            self._pieces.append(content)
            self._wake()
        elif self._read is not None:
            self._read(len(content))

    def end(self) -> None:
        """Of the connection: that was all."""
        self._ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """Of the connection: the rest does not come."""
        if not self.ended:
            self._error = error
            self._wake()

    def drop(self) -> None:
        """Of the connection: nobody reads it any more."""
        self._dropped = True
        size = sum(map(len, self._pieces))
        self._pieces.clear()
        if size and self._read is not None:
            self._read(size)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Request:
    """A request whose head is here."""

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
        protocol: Link,
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
        """Its target, as it came."""
        self.version = version
        self.headers = headers
        self.keep_alive = keep_alive
        """Another one may follow it."""
        self.content = content
        self.content_length = content_length
        """What its head says; None: it says none."""
        self.size = size
        """What its head takes, bytes."""
        self.malformed = malformed
        """It is no request. It stands in the place of one, so that its refusal comes after the answers before it."""
