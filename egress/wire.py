"""The HTTP/1.1 server that agents talk to (RFC 9112).

llhttp reads heads and chunks. It refuses whatever two readers could understand differently: a line that ends in a bare
LF, a folded header, two lengths, a length beside a transfer coding. What it leaves to others is decided here. A request
that is not as it should be is refused in a word, and its connection is closed.

Requests may be sent ahead of their answers. They are answered one after the other. What is kept of them is bounded,
since they are read before anybody has looked at them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import structlog
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from multidict import CIMultiDict

from egress.answers import Answer
from egress.faults import word
from egress.request import BrokenBody, Content, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = structlog.get_logger("egress.wire")

#: A connection on which no request is answered, and none becomes whole, is closed after so long.
IDLE_S: Final = 120.0
#: Of one request: its first line and its headers. Those of the agents' runtimes have 2 or 3 KB.
LONGEST_HEAD: Final = 64 * 1024
#: Heads of requests that were sent ahead, of one connection.
MOST_AHEAD: Final = 128 * 1024
#: Of the requests of one connection, what came of their bodies and is not read yet. Beyond it, nothing more is taken.
MOST_UNREAD: Final = 2**16
_LONGEST_HEADER: Final = 32_768
_MOST_HEADERS: Final = 128
#: What a request in memory takes beside the bytes of its head, or more.
_EACH: Final = 512
#: A client that is still sending a request that was answered gets so long to end it, and to see the answer.
_LINGER_S: Final = 2.0
#: Of a length. More of them are zeros before it, or a number that is none.
_MOST_DIGITS: Final = 20
_VERSIONS: Final = {"1.1": (1, 1), "1.0": (1, 0)}
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_TEXT: Final = ((b"Content-Type", b"text/plain"),)

#: Answers a request. Returns whether the connection may go on.
Handler: TypeAlias = "Callable[[Request], Awaitable[bool]]"


class Server:
    """Makes a protocol for each connection."""

    def __init__(self, handler: Handler, *, broken: Callable[[str], None]) -> None:
        """`broken` is told why something was no request."""
        self.handler = handler
        self.broken = broken
        self.connections: set[Connection] = set()

    def __call__(self) -> Connection:
        return Connection(self)

    async def shutdown(self, patience_s: float) -> None:
        """End all connections, after so many seconds at most for what is under way."""
        running = [connection.task for connection in self.connections if connection.task and not connection.stays]
        if running:
            await asyncio.wait(running, timeout=patience_s)
        for connection in list(self.connections):
            if connection.task is None:
                connection.close()
            else:
                connection.abort()
        # Those that were cancelled end now.
        await asyncio.gather(*running, return_exceptions=True)


class Connection(asyncio.Protocol):
    """One connection of an agent."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._parser = HttpRequestParser(self)
        self.transport: asyncio.Transport | None = None
        """None: the client is gone."""
        self.task: asyncio.Task[None] | None = None
        """It answers a request."""
        self._left: Callable[[], None] | None = None
        """Told that the client has left, instead of whoever answers being cancelled."""

        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._size = 0
        """Of the head that is coming, as far as it was read."""
        self._bare = 0
        """Bytes since the last head or content: of a head, of what stands between chunks, of trailers."""
        self._wrong: str | None = None
        """Why one of the parser's callbacks did not go on."""
        self._too_much = False
        """What came is not even answered."""
        self._reads_again = False
        """A second parser is being told what the first one has read already."""

        self._coming: Request | None = None
        """The one whose body is coming."""
        self._waiting: deque[Request] = deque()
        self._ahead = 0
        """What the heads of those take."""
        self._unread = 0
        self._paused = False
        self._over = False
        """No further request is taken."""
        self._lingering: asyncio.TimerHandle | None = None
        """Until it ends, the client may send the rest of what was answered."""

        self._held_up: asyncio.Future[None] | None = None
        """The client takes nothing at the moment."""
        self._idle_until = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        """Break it at once. Never waits."""
        self._over = True
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Let it have what was written, and no more."""
        self._over = True
        self._coming = None
        if self.transport is not None:
            self.transport.close()

    # What comes

    def data_received(self, data: bytes) -> None:
        """Of the transport."""
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
                what = "a request with a head" if self._coming is None else "a request with a part without content"
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
            # It is answered as if it had not wished for another protocol (RFC 9110, 7.8). The parser takes what
            # follows for that protocol; another one is told how the body is framed, and goes on from there.
            self._parser = HttpRequestParser(self)
            self._reads_again = True
            framing = [b"%b: %b\r\n" % (name, value) for name, value in self._headers if name.lower() in _FRAMING]
            self._parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
            if self._over:
                return

    def on_message_begin(self) -> None:
        """Of the parser."""
        if self._reads_again:
            return
        self._target = b""
        self._headers = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        """Of the parser: the target, or a part of it."""
        if self._reads_again:
            return
        self._target += url
        self._grow(len(url), len(self._target))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the parser: of the head, or a trailer."""
        if self._reads_again:
            return
        if self._coming is not None:
            # Trailers go no further, and say nothing of where the request ends (RFC 9110, 6.5.1).
            if name.lower() in _FRAMING:
                self._stop("a trailer says how long it is")
            return
        if len(self._headers) == _MOST_HEADERS:
            self._stop(f"it has more than {_MOST_HEADERS} headers")
        self._headers.append((name, value))
        self._grow(len(name) + len(value), len(name) + len(value))

    def _grow(self, more: int, line: int) -> None:
        self._size += more
        if line > _LONGEST_HEADER:
            self._stop(f"a line of its head has more than {_LONGEST_HEADER} bytes")
        if self._size > LONGEST_HEAD:
            self._too_much = True
            self._stop(f"a request with a head of more than {LONGEST_HEAD} bytes")

    def on_headers_complete(self) -> None:
        """Of the parser."""
        if self._reads_again:
            self._reads_again = False
            return
        self._bare = 0
        version = _VERSIONS.get(self._parser.get_http_version())
        if version is None:
            self._stop("it speaks another version of HTTP")
        headers: CIMultiDict[str] = CIMultiDict()
        for name, value in self._headers:
            # As it stands, whatever it is; who sends it on looks whether it can be sent.
            headers.add(name.decode("ascii"), value.decode("utf-8", "surrogateescape").rstrip(" \t"))
        if len(headers.getall("Host", ())) > 1:
            self._stop("it names more than one host")
        coding = headers.getall("Transfer-Encoding", ())
        if coding and (len(coding) > 1 or coding[0].lower() != "chunked" or version == (1, 0)):
            # What stands before or beside it could be read in more ways than one.
            self._stop("its transfer coding is another than chunked")
        length = headers.get("Content-Length")
        if length is not None and not (length.isascii() and length.isdigit() and len(length) <= _MOST_DIGITS):
            self._stop("its length is none")
        request = Request(
            self,
            method=self._parser.get_method().decode("ascii"),
            raw_path=self._target.decode("utf-8", "surrogateescape"),
            version=cast("tuple[int, int]", version),
            headers=headers,
            keep_alive=self._parser.should_keep_alive(),
            content=Content(self._was_read),
            content_length=int(length) if length is not None else None,
            size=self._size + _EACH,
        )
        self._coming = request
        self._enqueue(request)

    def _enqueue(self, request: Request) -> None:
        self._waiting.append(request)
        self._ahead += request.size
        if len(self._waiting) > 1 and self._ahead > MOST_AHEAD:
            self._too_much = True
            self._stop(f"requests sent ahead with heads of more than {MOST_AHEAD} bytes")
        if self.task is None and self._lingering is None:
            self._next()

    def on_body(self, content: bytes) -> None:
        """Of the parser."""
        self._bare = 0
        if self._coming is not None:
            self._unread += len(content)
            self._coming.content.take(content)
            if self._unread > MOST_UNREAD and not self._paused:
                self._paused = True
                if self.transport is not None and not self.transport.is_closing():
                    self.transport.pause_reading()

    def on_message_complete(self) -> None:
        """Of the parser."""
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
        """Keep the parser from going on."""
        self._wrong = why
        raise ValueError(why)

    def _break(self, why: str) -> None:
        """What comes is no request, or not the rest of one."""
        coming, self._coming = self._coming, None
        if self._over and coming is None:
            # Of what follows the last request nothing is taken, whatever it is.
            return
        self._over = True
        if self._too_much:
            self._server.broken(why)
            self.abort()
            return
        if coming is not None:
            coming.content.fail(BrokenBody(why))
            if self._lingering is not None:
                self.close()
            return
        self._server.broken(f"a malformed request: {why}")
        content = Content()
        content.end()
        refused = Request(
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

    # Whose turn it is

    def _next(self) -> None:
        if self._waiting:
            request = self._waiting.popleft()
            self._ahead -= request.size
            self.task = self._loop.create_task(self._serve(request))
        elif self._over:
            self.close()
        else:
            self._idle_until = self._loop.time() + IDLE_S

    async def _serve(self, request: Request) -> None:
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

    def _answered(self, request: Request, goes_on: bool) -> None:
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
            # A connection that is closed while its client still sends takes the answer along.
            self._lingering = self._loop.call_later(_LINGER_S, self.close)
        else:
            self._next()

    # What goes

    @property
    def writing_paused(self) -> bool:
        """The client takes nothing at the moment."""
        return self._held_up is not None

    @property
    def stays(self) -> bool:
        """Whoever answers goes on when the client leaves."""
        return self._left is not None

    def stay(self, left: Callable[[], None]) -> None:
        """Have whoever answers go on when the client leaves. Then `left` is called, once, and nothing is cancelled."""
        self._left = left

    async def drain(self) -> None:
        """Wait until the client has taken enough for more to be written.

        Raises:
            ConnectionResetError: the client is gone.
        """
        if self._held_up is not None:
            await asyncio.shield(self._held_up)
        if self.transport is None:
            raise ConnectionResetError("the client is gone")

    def pause_writing(self) -> None:
        """Of the transport."""
        self._held_up = self._loop.create_future()

    def resume_writing(self) -> None:
        """Of the transport."""
        held_up, self._held_up = self._held_up, None
        if held_up is not None:
            held_up.set_result(None)

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of the transport."""
        # uvloop's are not of asyncio's class.
        self.transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)
        self._idle_until = self._loop.time() + IDLE_S
        self._alarm = self._loop.call_at(self._idle_until, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Of the transport."""
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
        # It holds on to this object, as this does to it.
        del self._parser
        if self._left is not None:
            self._left()
        elif self.task is not None:
            # Who leaves is noticed at once, wherever the answer stands.
            self.task.cancel()

    def _look(self) -> None:
        """The clock is wound up once per silence, and not anew for every request."""
        now = self._loop.time()
        if self.task is not None or self._lingering is not None:
            self._alarm = self._loop.call_at(now + IDLE_S, self._look)
        elif self._idle_until > now:
            self._alarm = self._loop.call_at(self._idle_until, self._look)
        else:
            self.abort()


async def _malformed(request: Request) -> bool:
    answer = Answer(request)
    answer.refuse(400, _TEXT, b"muster: the request is malformed.\n", close=True)
    return answer.given()
