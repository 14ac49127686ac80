"""The HTTP/1.1 server for agents (RFC 9112).

llhttp parses heads and chunks. It rejects whatever two parsers could read differently: bare LF line ends, folded
headers, two lengths, a length together with a transfer coding. This module checks the rest. It answers a malformed
request with 400 and closes the connection.

A client may send requests before it has the answers to earlier ones. The server answers them in order, and limits how
much of them it keeps in memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, cast

import structlog
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from multidict import CIMultiDict

from egress.http.response_writer import ResponseWriter
from egress.request.agent_request import AgentRequest, BrokenBody, Content
from egress.upstream.connection_error_text import word

_log = structlog.get_logger("egress.http.bounded_http_server")

#: The server closes a connection that completes no request for this long, in seconds.
IDLE_S: Final = 120.0
#: The maximum length of a request's first line and headers, in bytes. The agents' runtimes send 2 or 3 KB.
LONGEST_HEAD: Final = 64 * 1024
#: The maximum size of the heads that wait on one connection, in bytes.
MOST_AHEAD: Final = 128 * 1024
#: The unread body bytes of one connection. Above this limit the server stops reading from it.
MOST_UNREAD: Final = 2**16
_LONGEST_HEADER: Final = 32_768
_MOST_HEADERS: Final = 128
#: The memory of a waiting request, and of each of its headers, besides their bytes.
_EACH: Final = 512
_EACH_HEADER: Final = 200
#: How long a client that still sends a request after its answer may take to finish it and to read the answer, in
#: seconds.
_LINGER_S: Final = 2.0
#: The digits of a Content-Length. A longer one has leading zeros, or is too large.
_MOST_DIGITS: Final = 20
_VERSIONS: Final = {"1.1": (1, 1), "1.0": (1, 0)}
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_TEXT: Final = ((b"Content-Type", b"text/plain"),)

#: Answers a request, and returns whether the connection stays open.
Handler: TypeAlias = "Callable[[AgentRequest], Awaitable[bool]]"


class Server:
    """Creates a protocol for each connection."""

    def __init__(self, handler: Handler, *, broken: Callable[[str], None]) -> None:
        """`broken` is called with the reason when a client sends a malformed request."""
        self.handler = handler
        self.broken = broken
        self.connections: set[AgentConnection] = set()

    def __call__(self) -> AgentConnection:
        return AgentConnection(self)

    async def shutdown(self, patience_s: float) -> None:
        """Close all connections. Running requests have at most `patience_s` seconds to finish."""
        running = [connection.task for connection in self.connections if connection.task and not connection.stays]
        if running:
            await asyncio.wait(running, timeout=patience_s)
        for connection in list(self.connections):
            if connection.task is None:
                connection.close()
            else:
                connection.abort()
        # Wait for the canceled tasks.
        await asyncio.gather(*running, return_exceptions=True)


class AgentConnection(asyncio.Protocol):
    """One connection of an agent."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._parser = HttpRequestParser(self)
        self.transport: asyncio.Transport | None = None
        """None after the connection was lost."""
        self.task: asyncio.Task[None] | None = None
        """The task that answers the current request."""
        self._left: Callable[[], None] | None = None
        """Called when the client leaves, instead of cancelling the task."""

        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._size = 0
        """Bytes of the current head that were parsed."""
        self._bare = 0
        """Bytes since the last complete head or body byte: a partial head, chunk sizes, trailers."""
        self._wrong: str | None = None
        """Why a callback stopped the parser."""
        self._too_much = False
        """The client passed a limit: abort the connection without an answer."""
        self._reads_again = False
        """A new parser is reading a synthetic head; its callbacks are ignored until that ends."""

        self._coming: AgentRequest | None = None
        """The request whose body is arriving."""
        self._waiting: deque[AgentRequest] = deque()
        self._ahead = 0
        """The sum of their sizes."""
        self._unread = 0
        self._paused = False
        self._over = False
        """No further requests are read."""
        self._lingering: asyncio.TimerHandle | None = None
        """Closes the connection if the client does not finish a request that was answered early."""

        self._held_up: asyncio.Future[None] | None = None
        """Resolved when the write buffer has room again; None while it has."""
        self._idle_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        """Break the connection at once."""
        self._over = True
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Close the connection after the written bytes were sent."""
        self._over = True
        self._coming = None
        if self.transport is not None:
            self.transport.close()

    # Reading

    def data_received(self, data: bytes) -> None:
        """Parse received bytes. The transport calls this."""
        if self._over and self._coming is None:
            return
        self._bare += len(data)
        try:
            self._feed(data)
        except HttpParserError as error:
            self._break(self._wrong or word(error))
        else:
            if self._bare > LONGEST_HEAD:
                self._too_much = True
                what = (
                    "a request with a head" if self._coming is None else "a request with chunk extensions or trailers"
                )
                self._break(f"{what} of more than {LONGEST_HEAD} bytes")

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            if self._coming is None:
                return
            # A server may ignore an offer to change the protocol (RFC 9110, section 7.8). The parser cannot, and stops
            # before the body. So a new parser gets a head with the same framing, and continues with the body.
            self._parser = HttpRequestParser(self)
            self._reads_again = True
            framing = [b"%b: %b\r\n" % (name, value) for name, value in self._headers if name.lower() in _FRAMING]
            self._parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
            if self._over:
                return

    def on_message_begin(self) -> None:
        """Handle the start of a request. The parser calls this."""
        if self._reads_again:
            return
        self._target = b""
        self._headers = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        """Handle the target or a part of it. The parser calls this."""
        if self._reads_again:
            return
        self._target += url
        self._size += len(url)
        if len(self._target) > _LONGEST_HEADER or self._size > LONGEST_HEAD:
            self._refuse_length(len(self._target))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handle a header or a trailer. The parser calls this."""
        if self._reads_again:
            return
        if self._coming is not None:
            # Trailers are dropped, and must not contain framing (RFC 9110, section 6.5.1).
            if name.lower() in _FRAMING:
                self._stop("a trailer contains a length or a transfer coding")
            return
        if len(self._headers) == _MOST_HEADERS:
            self._stop(f"more than {_MOST_HEADERS} headers")
        self._headers.append((name, value))
        line = len(name) + len(value)
        self._size += line
        if line > _LONGEST_HEADER or self._size > LONGEST_HEAD:
            self._refuse_length(line)

    def _refuse_length(self, line: int) -> None:
        if line > _LONGEST_HEADER:
            self._stop(f"a line of more than {_LONGEST_HEADER} bytes in the head")
        self._too_much = True
        self._stop(f"a request with a head of more than {LONGEST_HEAD} bytes")

    def on_headers_complete(self) -> None:
        """Handle the end of a head. The parser calls this."""
        if self._reads_again:
            self._reads_again = False
            return
        self._bare = 0
        version = _VERSIONS.get(self._parser.get_http_version())
        if version is None:
            self._stop("the HTTP version is neither 1.0 nor 1.1")
        # Not checked here: egress.http.header_filter refuses values that are not UTF-8.
        headers = CIMultiDict(
            [
                (name.decode("ascii"), value.rstrip(b" \t").decode("utf-8", "surrogateescape"))
                for name, value in self._headers
            ]
        )
        if len(headers.getall("Host", ())) > 1:
            self._stop("more than one Host header")
        coding = headers.getall("Transfer-Encoding", ())
        if coding and (len(coding) > 1 or coding[0].lower() != "chunked" or version == (1, 0)):
            # Other codings, or several of them, are ambiguous.
            self._stop("a transfer coding other than chunked")
        length = headers.get("Content-Length")
        if length is not None and not (length.isascii() and length.isdigit() and len(length) <= _MOST_DIGITS):
            self._stop("the Content-Length is not a number")
        request = AgentRequest(
            self,
            method=self._parser.get_method().decode("ascii"),
            raw_path=self._target.decode("utf-8", "surrogateescape"),
            version=cast("tuple[int, int]", version),
            headers=headers,
            keep_alive=self._parser.should_keep_alive(),
            content=Content(self._was_read),
            content_length=int(length) if length is not None else None,
            size=self._size + _EACH + _EACH_HEADER * len(self._headers),
        )
        self._coming = request
        self._enqueue(request)

    def _enqueue(self, request: AgentRequest) -> None:
        self._waiting.append(request)
        self._ahead += request.size
        if len(self._waiting) > 1 and self._ahead > MOST_AHEAD:
            self._too_much = True
            self._stop(f"requests sent ahead with heads of more than {MOST_AHEAD} bytes")
        if self.task is None and self._lingering is None:
            self._next()

    def on_body(self, content: bytes) -> None:
        """Handle content. The parser calls this."""
        self._bare = 0
        if self._coming is not None:
            self._unread += len(content)
            self._coming.content.take(content)
            if self._unread > MOST_UNREAD and not self._paused:
                self._paused = True
                if self.transport is not None and not self.transport.is_closing():
                    self.transport.pause_reading()

    def on_message_complete(self) -> None:
        """Handle the end of a request. The parser calls this."""
        request = self._coming
        if request is None or (self._parser.should_upgrade() and request.method != "CONNECT"):
            return
        self._bare = 0
        self._coming = None
        request.content.end()
        if not request.keep_alive or request.method == "CONNECT":
            self._over = True
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
            self._next()

    def _stop(self, why: str) -> None:
        """Stop the parser."""
        self._wrong = why
        raise ValueError(why)

    def _break(self, why: str) -> None:
        """Handle input that is not HTTP, or that exceeds a limit."""
        coming, self._coming = self._coming, None
        if self._over and coming is None:
            # After the last request, any input is ignored.
            return
        self._over = True
        if self._too_much:
            self._server.broken(why)
            self.abort()
            return
        self._server.broken(f"a malformed request: {why}")
        if coming is not None:
            coming.content.fail(BrokenBody(why))
            if self._lingering is not None:
                self.close()
            return
        content = Content()
        content.end()
        refused = AgentRequest(
            self,
            method="GET",
            raw_path="/",
            version=(1, 1),
            headers=CIMultiDict(),
            keep_alive=False,
            content=content,
            malformed=True,
        )
        self._waiting.append(refused)
        if self.task is None and self._lingering is None:
            self._next()

    def _was_read(self, size: int) -> None:
        self._unread -= size
        if self._paused and self._unread <= MOST_UNREAD // 2:
            self._paused = False
            if self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()

    # Answering in order

    def _next(self) -> None:
        if self._waiting:
            request = self._waiting.popleft()
            self._ahead -= request.size
            self.task = self._loop.create_task(self._serve(request))
        elif self._over:
            self.close()
        else:
            self._idle_until = self._loop.time() + IDLE_S

    async def _serve(self, request: AgentRequest) -> None:
        goes_on = False
        try:
            goes_on = await (_malformed(request) if request.malformed else self._server.handler(request))
        except ConnectionError:
            pass
        except Exception:
            _log.exception("request failed", method=request.method)
        finally:
            self.task = self._left = None
            self._answered(request, goes_on)

    def _answered(self, request: AgentRequest, goes_on: bool) -> None:
        if not goes_on:
            self._over = True
            self._waiting.clear()
            self._ahead = 0
            if self._coming is not request:
                self._coming = None
        request.content.drop()
        if self.transport is None or self.transport.is_closing():
            return
        if self._coming is request:
            # Closing while the client still sends would reset the connection, and the client could lose the answer.
            self._lingering = self._loop.call_later(_LINGER_S, self.close)
        else:
            self._next()

    # Writing

    @property
    def writing_paused(self) -> bool:
        """True while the write buffer is full."""
        return self._held_up is not None

    @property
    def stays(self) -> bool:
        """Whether the handler continues after the client leaves."""
        return self._left is not None

    def stay(self, left: Callable[[], None]) -> None:
        """Let the handler continue after the client leaves: call `left` once instead of canceling its task."""
        self._left = left

    async def drain(self) -> None:
        """Wait until the write buffer has room.

        Raises:
            ConnectionResetError: the client has left.
        """
        if self._held_up is not None:
            await asyncio.shield(self._held_up)
        if self.transport is None:
            raise ConnectionResetError("the client is gone")

    def pause_writing(self) -> None:
        """Note that the write buffer is full. The transport calls this."""
        self._held_up = self._loop.create_future()

    def resume_writing(self) -> None:
        """Continue writing. The transport calls this."""
        held_up, self._held_up = self._held_up, None
        if held_up is not None:
            held_up.set_result(None)

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport, which calls this."""
        # uvloop's are not of asyncio's class.
        self.transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)
        self._idle_until = self._loop.time() + IDLE_S
        self._alarm = self._loop.call_at(self._idle_until, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection. The transport calls this."""
        self.transport = None
        self._over = True
        self._server.connections.discard(self)
        self.resume_writing()
        for timer in (self._alarm, self._lingering):
            if timer is not None:
                timer.cancel()
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.content.fail(ConnectionResetError("the client is gone"))
        self._waiting.clear()
        # Break the reference cycle between the parser and this object.
        del self._parser
        if self._left is not None:
            self._left()
        elif self.task is not None:
            # A client that leaves ends its request at once.
            self.task.cancel()

    def _look(self) -> None:
        """Check for silence. One timer for each connection is cheaper than one for each request."""
        now = self._loop.time()
        if self.task is not None or self._lingering is not None:
            self._alarm = self._loop.call_at(now + IDLE_S, self._look)
        elif self._idle_until > now:
            self._alarm = self._loop.call_at(self._idle_until, self._look)
        else:
            self.abort()


async def _malformed(request: AgentRequest) -> bool:
    answer = ResponseWriter(request)
    answer.refuse(400, _TEXT, b"muster: the request is malformed.\n", close=True)
    return answer.given()
