"""Responses to agents: the head, the content, and a clean end or a break.

It writes to the transport directly. A proxy must distinguish an end from a break, to the byte. A web server's response
objects add headers, buffer content, and end cleanly where this must not happen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from core.secret_values import MaskedStream, SecretValues
from egress.request.agent_request import AgentRequest

#: How long a client that was cut off may take to read the last bytes, in seconds.
GRACE_S: Final = 0.03
#: The time in seconds after which a client that does not read is given up: its reservation is unavailable to others.
STALLED_S = 600.0

_NO_CONTENT: Final = {204, 304}
#: Headers of a refusal.
JSON: Final = ((b"Content-Type", b"application/json"),)


class ResponseWriter:
    """The response to one request. Its methods raise only ConnectionError, if the connection is gone."""

    __slots__ = (
        "_chunked",
        "_closing",
        "_deserted",
        "_ended",
        "_left",
        "_masked",
        "_protocol",
        "_request",
        "_secrets",
        "begun",
    )

    def __init__(self, request: AgentRequest, secrets: SecretValues | None = None) -> None:
        """`secrets` are masked in the response: some servers repeat what they received."""
        self._request = request
        self._protocol = request.protocol
        self._chunked = False
        self._left: int | None = None
        self._closing = False
        self._ended = False
        self._deserted = False
        self._secrets = secrets
        self._masked = None if secrets is None else MaskedStream(secrets)
        self.begun = False
        """The head was written: another status can no longer be told."""

    @property
    def open(self) -> bool:
        """Whether something can still be written."""
        transport = self._protocol.transport
        return transport is not None and not transport.is_closing() and not self._ended

    def go_on(self) -> None:
        """Ask a waiting client to send its body (RFC 9110, section 10.1.1)."""
        self._put(b"HTTP/1.1 100 Continue\r\n\r\n")

    def begin(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], *, length: int | None, with_: bytes = b""
    ) -> None:
        """Write the head.

        Args:
            status: the status of the response.
            headers: all headers except those about length and connection.
            length: the length of the content; None: unknown.
            with_: the beginning of the content, which is sent in the same packet.
        """
        request = self._request
        old = request.version < (1, 1)
        lines = [b"HTTP/1.1 %d %s" % (status, _REASONS.get(status, b""))]
        lines += [name + b": " + value for name, value in headers]
        bare = request.method == "HEAD" or status in _NO_CONTENT
        if bare:
            if length is not None and status not in _NO_CONTENT:
                lines.append(b"Content-Length: %d" % length)
            self._left = 0
        elif length is not None:
            lines.append(b"Content-Length: %d" % length)
            self._left = length
        elif old:
            self._closing = True
        else:
            lines.append(b"Transfer-Encoding: chunked")
            self._chunked = True
        if self._closing or not request.keep_alive:
            self._closing = True
            lines.append(b"Connection: close")
        elif old:
            lines.append(b"Connection: keep-alive")
        self.begun = True
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        if self._secrets is not None:
            head = self._secrets.masked(head)
        self._put(head + self._framed(with_) if with_ else head)

    def write(self, content: bytes) -> None:
        """Write content. After large amounts, the caller must await `drained`."""
        if content:
            framed = self._framed(content)
            if framed:
                self._put(framed)

    async def drained(self) -> None:
        """Wait until the client has read enough for more to be written."""
        if self._deserted or not self._protocol.writing_paused:
            return
        try:
            async with asyncio.timeout(STALLED_S):
                await self._protocol.drain()
        except TimeoutError:
            raise ConnectionResetError("the client takes nothing any more") from None

    def end(self, content: bytes = b"") -> None:
        """Write the last content and a clean end."""
        framed = self._framed(content, last=True)
        if self._chunked:
            framed += b"0\r\n\r\n"
        short = self._left is not None and self._left > 0
        self._ended = True
        if framed and not self._deserted:
            transport = self._protocol.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the client is gone")
            transport.write(framed)
        if short:
            # Fewer bytes than announced: no client may take this for a complete response.
            self.abort()

    def refuse(
        self,
        status: int,
        headers: Iterable[tuple[bytes, bytes]],
        content: bytes,
        *,
        close: bool = False,
    ) -> None:
        """Send a complete response of the egress's own. If another response has begun, break that off instead."""
        if self.begun or not self.open:
            self.abort()
            return
        self._closing = self._closing or close
        self.begin(status, headers, length=len(content), with_=content)
        self.end()

    def cut(self, last: bytes) -> None:
        """Break the response off, after the last bytes of a stream if there are any. Never waits, never raises."""
        if not last or not self.open or self._left is not None:
            self.abort()
            return
        transport = self._protocol.transport
        assert transport is not None
        transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if self._chunked else last)
        self._close_soon()

    def last_word(self, status: int, content: bytes) -> None:
        """Send a complete response, as far as the client reads it soon, and close. Never waits, never raises."""
        if not self.open or self.begun:
            self.abort()
            return
        self._closing = True
        self.begin(status, JSON, length=len(content), with_=content)
        self._put(self._framed(b"", last=True))
        self._close_soon()

    def _close_soon(self) -> None:
        self._ended = True
        self._closing = True
        transport = self._protocol.transport
        if transport is None:
            return
        if transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(GRACE_S, transport.abort)
        transport.close()

    def leave(self) -> None:
        """Break off a response that has not ended."""
        if not self._ended:
            self.abort()

    def desert(self) -> None:
        """Break the connection, and drop all further writes without an error."""
        self.leave()
        self._deserted = True

    def abort(self) -> None:
        """Break the connection, so that the client sees that the response is incomplete."""
        self._ended = True
        self._closing = True
        if self._protocol.transport is not None:
            self._protocol.transport.abort()

    def given(self) -> bool:
        """Return whether the connection stays open: the answer is complete, and did not announce a close."""
        return self._ended and not self._closing

    def _framed(self, content: bytes, *, last: bool = False) -> bytes:
        if self._masked is not None:
            content = self._masked.feed(content)
            if last:
                content += self._masked.end()
        if not content:
            # An empty chunk would mark the end.
            return b""
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(content), content)
        if self._left is not None:
            # A provider that sends more than it announced must not write into the next response.
            content = content[: self._left]
            self._left -= len(content)
        return content

    def _put(self, framed: bytes) -> None:
        if self._deserted:
            return
        transport = self._protocol.transport
        if transport is None or transport.is_closing() or self._ended:
            raise ConnectionResetError("the client is gone")
        transport.write(framed)


_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
