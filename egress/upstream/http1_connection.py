"""A connection to a provider, with one exchange at a time: a request, and its streaming response.

HTTP/1.1 (RFC 9112). llhttp parses heads and chunks. It rejects whatever two parsers could read differently: bare LF
line ends, folded headers, two lengths, a length together with a transfer coding. This module checks what llhttp does
not. Any irregularity breaks the connection. A connection is reused only if its exchange ended cleanly, to the byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
from collections.abc import Callable
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from egress.request.body_buffer import Body
from egress.upstream.connection_error_text import CLOSED, why, word
from egress.upstream.response_reader import Response, Unheard, UpstreamGone

#: How long a provider may be silent: a model can think for a long time before it writes.
SILENCE_S: Final = 600.0
#: Bytes to buffer ahead of the reader of one response; reading pauses at twice this size.
READ_AHEAD: Final = 2**15
#: Bytes without content: a head, chunk framing, trailers.
LONGEST_HEAD: Final = 2**16
MOST_HEADERS: Final = 128
#: Interim responses before the final one (RFC 9110, section 15.2).
MOST_INTERIM: Final = 16
#: Digits of a length. A longer one has leading zeros, or is out of range.
_MOST_DIGITS: Final = 20
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
#: Bytes per read from the network.
PIECE: Final = 2**16


class UpstreamConnection(asyncio.BufferedProtocol):
    """One connection. It is in use from `ask` until `free` or `lost` is called."""

    def __init__(
        self,
        *,
        buffer: memoryview,
        free: Callable[[UpstreamConnection], None],
        lost: Callable[[UpstreamConnection], None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """
        Args:
            buffer: a read buffer of PIECE bytes. All connections of a loop share it: its content is consumed before
                the next read. A buffer for each would cost more time than reading does, or 64 KB for each open stream.
            free: called when an exchange ended so that another may follow.
            lost: called when the connection is gone.
            loop: makes its futures and timers; None: the running one.
        """
        self._buffer = buffer
        self._free = free
        self._loop = loop or asyncio.get_running_loop()
        self._told = lost
        self._parser = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._secured: ssl.SSLObject | None = None
        self._quiet = select.poll()
        self._lost = False
        self.used = False
        """There was an exchange on it before."""

        self._answered: asyncio.Future[Response] | None = None
        """Of the exchange that is on; None: there is none."""
        self._response: Response | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._bare = 0
        """Bytes since the last content."""
        self._interim = 0
        self._heard = False
        self._headless = False
        """It answers a HEAD: its content's length is said, but there is none."""
        self._until_close = False
        self._keep = False
        self._complete = False
        self._wrong: str | None = None
        """Why one of the parser's callbacks did not go on."""

        self._sender: asyncio.Task[None] | None = None
        self._held_up: asyncio.Future[None] | None = None
        """The provider takes nothing at the moment."""
        self._paused = False
        self._until: float | None = None
        """When the silence is too long; None: nothing is awaited."""
        self._alarm: asyncio.TimerHandle | None = None

    # An exchange

    @property
    def usable(self) -> bool:
        """Whether it is idle, and the provider has neither closed it nor sent anything on it.

        The loop may not have seen recent events, so this polls the socket itself.
        """
        return not self._lost and not self._transport.is_closing() and not self._quiet.poll(0)

    async def ask(self, head: bytes, body: Body | None, *, headless: bool = False) -> Response:
        """Send a request, and wait for the head of the response. The body is closed once it is sent.

        Args:
            head: the whole head of the request.
            body: the body, or None.
            headless: whether the request is a HEAD.

        Raises:
            UpstreamGone: there is no response.
        """
        if self._lost or self._transport.is_closing():
            raise UpstreamGone(f"the provider cannot be reached: {CLOSED}.", sent=False)
        answered: asyncio.Future[Response] = self._loop.create_future()
        self._answered = answered
        self._response = None
        self._headers = []
        self._bare = self._interim = 0
        self._heard = self._complete = self._keep = self._until_close = False
        self._headless = headless
        self._listen()
        try:
            self._send(head, body)
            return await answered
        except BaseException:
            # The caller is gone; the connection may already serve another exchange.
            if self._answered is answered:
                self.abort()
            raise

    def abort(self) -> None:
        """Break the connection at once. Never waits."""
        self._until = None
        # Any remaining data is discarded.
        self._secured = None
        if self._sender is not None:
            self._sender.cancel()
        self._transport.abort()

    # The request

    def _send(self, head: bytes, body: Body | None) -> None:
        if body is not None:
            body.begun = True
        if body is None:
            self._transport.write(head)
        elif body.long:
            self._transport.write(head)
            self._sender = self._loop.create_task(self._send_rest(body), name="request body")
        else:
            self._transport.write(head + body.content())
            if self._held_up is None:
                # Free the body now rather than when the response ends.
                body.close()
            else:
                self._sender = self._loop.create_task(self._send_rest(body), name="request body")
        if self._sender is not None:
            self._sender.add_done_callback(self._sent)

    async def _send_rest(self, body: Body) -> None:
        """Send the rest of the body, in a separate task: the response may arrive before all is sent (RFC 9110, section
        10.1.1; 413 and 429 do)."""
        try:
            await self._drained()
            if not body.long:
                return
            left = body.size
            async with contextlib.aclosing(body.pieces()) as pieces:
                async for piece in pieces:
                    if self._transport.is_closing():
                        return
                    left -= len(piece)
                    self._transport.write(piece)
                    await self._drained()
                    self._until = self._until and self._loop.time() + SILENCE_S
            if left:
                self._break("its request could not be read again")
        except OSError as error:
            self._break(why(error))
        finally:
            body.close()

    def _sent(self, sender: asyncio.Task[None]) -> None:
        if self._sender is sender:
            self._sender = None
        if not sender.cancelled() and (error := sender.exception()) is not None:
            self._break(type(error).__name__)

    async def _drained(self) -> None:
        while self._held_up is not None:
            await asyncio.shield(self._held_up)

    def pause_writing(self) -> None:
        """Note that the write buffer is full. The transport calls this."""
        self._held_up = self._loop.create_future()

    def resume_writing(self) -> None:
        """Continue writing. The transport calls this."""
        held_up, self._held_up = self._held_up, None
        if held_up is not None:
            held_up.set_result(None)

    # The response

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the read buffer. The transport calls this."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle received bytes. The transport calls this."""
        if self._answered is None:
            # No one asked for it.
            self.abort()
            return
        if not self._transport.is_closing():
            self._take(nbytes)

    def _take(self, nbytes: int) -> None:
        first, self._heard = not self._heard, True
        self._bare += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except HttpParserUpgrade:
            self._break("it switched to another protocol")
            return
        except HttpParserError as error:
            self._keep = False
            if not self._complete:
                self._break(self._wrong or f"its data is not HTTP/1.1 ({word(error)})")
                return
        if self._complete:
            self._finish()
            return
        if self._bare > LONGEST_HEAD:
            self._break(f"it sent more than {LONGEST_HEAD} bytes without content")
            return
        if first or not self._bare:
            # An endless head that arrives byte by byte counts as silence.
            self._until = self._loop.time() + SILENCE_S
        if self._response is not None:
            self._response.wake()

    def on_message_begin(self) -> None:
        """Handle the start of a response. The parser calls this."""
        if self._complete:
            self._stop("more came than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handle a header or a trailer. The parser calls this."""
        if self._response is not None:
            # Trailers are dropped, and must not define where the response ends (RFC 9110, section 6.5.1).
            if name.lower() in _FRAMING:
                self._stop("a trailer says how long it is")
            return
        if len(self._headers) == MOST_HEADERS:
            self._stop(f"it has more than {MOST_HEADERS} headers")
        self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Handle the end of a head. The parser calls this."""
        status = self._parser.get_status_code()
        if status < 100:
            self._stop("its status is none")
        if status < 200:
            if any(name.lower() in _FRAMING and value.strip(b"0") for name, value in self._headers):
                # An interim response has no content (RFC 9110, section 15.2). Two readers could disagree on whether the
                # next bytes are its content or the final response.
                self._stop("what it said before its response has content")
            self._interim += 1
            self._headers = []
            self._bare = 0
            if self._interim > MOST_INTERIM:
                self._stop(f"it said more than {MOST_INTERIM} times that a response is to come")
            return
        version = self._parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            self._stop("it speaks another version of HTTP")
        answered = self._answered
        if answered is None or answered.done():
            self._stop("nobody waits for it any more")
            return
        response = Response(self, status, self._headers)
        coding = response.headers.get("transfer-encoding")
        if coding is not None and (coding.lower() != "chunked" or version == "1.0"):
            # Any other coding before or after `chunked` is ambiguous.
            self._stop("its transfer coding is another than chunked")
        length = response.headers.get("content-length")
        if length is not None and len(length) > _MOST_DIGITS:
            self._stop("its length is none")
        self._bare = 0
        bodiless = self._headless or status in {204, 304}
        self._until_close = not bodiless and coding is None and length is None
        # A 204 or 304 has no content, but a server that announces a length may send it. After a HEAD, the parser waits
        # for content.
        suspect = self._headless or (bodiless and (coding is not None or (length or "0").strip("0") != ""))
        self._keep = version == "1.1" and not suspect and self._parser.should_keep_alive()
        self._complete = self._headless
        self._response = response
        answered.set_result(response)

    def on_body(self, content: bytes) -> None:
        """Handle content. The parser calls this."""
        response = self._response
        if response is None or self._complete:
            return
        self._bare = 0
        if response.take(content) > 2 * READ_AHEAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Handle the end of a response. The parser calls this."""
        if self._response is not None:
            self._complete = True

    def _stop(self, why: str) -> None:
        """Stop the parser."""
        self._wrong = why
        raise ValueError(why)

    def go_on(self) -> None:
        """Resume reading after the buffered content was read."""
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
                self._listen()

    def _finish(self) -> None:
        response, self._response, self._answered, self._until = self._response, None, None, None
        assert response is not None
        if self._paused:
            self.go_on()
            self._until = None
        response.end()
        self.used = True
        sent = self._sender is None and not self._transport.get_write_buffer_size()
        if self._keep and sent and not self._transport.is_closing():
            self._free(self)
        else:
            self.abort()

    def _break(self, why: str, *, closed: bool = False) -> None:
        answered, response = self._answered, self._response
        self._answered = self._response = None
        if response is not None:
            response.fail(why)
        elif answered is not None and not answered.done():
            kind = Unheard if closed and not self._heard else UpstreamGone
            answered.set_exception(kind(f"the provider gave no answer: {why}.", sent=True))
        self.abort()

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport, which calls this."""
        self._transport = cast("asyncio.Transport", transport)
        self._secured = transport.get_extra_info("ssl_object")
        self._quiet.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def eof_received(self) -> None:
        """Handle an orderly end of the provider's data. The transport calls this."""
        self._keep = False
        if self._answered is not None:
            self._end(CLOSED, in_order=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection. The transport calls this."""
        self._lost = True
        self.resume_writing()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._keep = False
        if self._answered is not None:
            self._end(why(exc) if exc is not None else CLOSED, in_order=False)
        elif self._sender is not None:
            self._sender.cancel()
        # Break the reference cycle between the parser and this object.
        del self._parser
        self._told(self)

    def _end(self, why: str, *, in_order: bool) -> None:
        """Finish or break the response when no more data can arrive.

        Below TLS, anyone on the path can end the connection, and event loops do not always report the difference. Only
        the holder of the keys can confirm that the response is complete (RFC 9112, section 9.8).
        """
        if self._secured is not None:
            in_order = self._read_up(self._secured)
        if self._answered is None:
            return
        if self._until_close and in_order:
            self._finish()
        else:
            self._break(why, closed=True)

    def _read_up(self, secured: ssl.SSLObject) -> bool:
        """Read decrypted data that loops drop when TLS ends while reading is paused.

        Return whether the provider ended the stream. The data is at most half a megabyte, which is what loops decrypt
        ahead.
        """
        try:
            # With a buffer, `read` returns a size (typeshed only declares bytes).
            while self._answered is not None and (size := cast("int", secured.read(PIECE, self._buffer))):
                self._take(size)
        except ssl.SSLZeroReturnError:
            return True
        except OSError:
            # The TLS stream has not ended.
            return False
        return True

    def _listen(self) -> None:
        """Restart the silence timeout.

        The timer is not reset for each piece of data. When it expires, it checks whether data arrived in the meantime.
        """
        self._until = self._loop.time() + SILENCE_S
        if self._alarm is None:
            self._alarm = self._loop.call_at(self._until, self._look)

    def _look(self) -> None:
        self._alarm = None
        if self._until is None or self._paused:
            return
        if self._until > self._loop.time():
            self._alarm = self._loop.call_at(self._until, self._look)
        else:
            self._break("the time for it is over")
