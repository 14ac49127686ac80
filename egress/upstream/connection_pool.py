"""The way to the providers: a pool of connections to each, and nothing in it that thinks for itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from egress.upstream.connection_error_text import why
from egress.upstream.http1_connection import PIECE, UpstreamConnection
from egress.upstream.response_reader import Unheard, UpstreamGone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohappyeyeballs import AddrInfoType
    from multidict import MultiMapping

    from egress.request.body_buffer import Body
    from egress.upstream.response_reader import Response

#: For a connection, from the wish for one to the end of the TLS handshake.
CONNECT_S: Final = 30.0
#: To one provider. Each stream holds one, so that this bounds the streams of all agents together.
MOST_CONNECTIONS: Final = 4_096
#: Shorter than servers keep idle connections: the fewer they close under a request, the better.
IDLE_S: Final = 15.0
NAMES_S: Final = 60.0
#: RFC 8305, 5: before the next address is tried beside the last one.
_STAGGER_S: Final = 0.25
_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
#: Asked twice, they do what they do asked once (RFC 9110, 9.2.2), and have no body here.
_REPEATABLE: Final = frozenset({"GET", "HEAD"})
_CLOSING_S: Final = 2.0


def check(upstream: str) -> str:
    """Return the address of an upstream, without a slash at its end.

    Raises:
        ValueError: it is none. The message says what to write.
    """
    if "@" in upstream:
        # Not shown: it may hold a password.
        raise ValueError("an upstream's address holds no user name and no password; name a credential instead.")
    try:
        parts = urlsplit(upstream)
        # Names in other scripts are written in several ways; what is in the request is to be what is certified.
        known = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0 and parts.netloc.isascii()
    except ValueError:
        known = False
    if not known or parts.query or parts.fragment:
        raise ValueError(f"{upstream!r} is no address of a provider; write it like https://api.example.com.")
    return upstream.rstrip("/")


class Upstream:
    """To be opened in the loop that uses it, and closed."""

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        if ssl_context is None:
            ssl_context = ssl.create_default_context()
            ssl_context.set_alpn_protocols(["http/1.1"])
        self._ssl_context = ssl_context
        self._buffer = memoryview(bytearray(PIECE))
        self._pools: dict[str, _Pool] = {}
        self._closed = False

    async def close(self) -> None:
        """Break what is still open; nothing is opened after it."""
        self._closed = True
        for pool in self._pools.values():
            await pool.close()

    async def send(self, method: str, url: str, headers: MultiMapping[str], body: Body | None) -> Response:
        """Send a request, and wait for the head of the response. The body is closed when it is sent.

        A server may close a connection just when a request is sent on it, and no one can tell then whether it was read
        (RFC 9112, 9.3.1). What a model is asked is not sent again by itself: were it answered twice, it would be billed
        twice. The agent is told, and its client decides (`UpstreamGone.sent`). So that this is rare, connections are
        idle for a short time alone, and none is used of which the end can be seen before anything was written. What
        may be repeated is, once, on a new connection.

        Raises:
            UpstreamGone: there is no response.
            ValueError: a header cannot be sent as it is; nothing was.
        """
        slash = url.find("/", url.find("://") + 3)
        origin, target = (url, "/") if slash < 0 else (url[:slash], url[slash:])
        pool = self._pools.get(origin)
        if self._closed:
            raise UpstreamGone("the provider cannot be reached: the egress is being stopped.", sent=False)
        if pool is None:
            pool = self._pools[origin] = _Pool(origin, self._ssl_context, self._buffer)
        size = body.size if body is not None else 0
        length = size if size or method not in _REPEATABLE else None
        head = _head(method, target, pool.host, headers, length)
        carried = body if size else None
        connection = pool.idle() or await pool.take()
        headless = method == "HEAD"
        try:
            return await connection.ask(head, carried, headless=headless)
        except Unheard:
            if not connection.used or method not in _REPEATABLE or carried is not None:
                raise
        return await (await pool.take(new=True)).ask(head, None, headless=headless)


class _Pool:
    """Connections to one provider: those that are idle, and the right to open more."""

    def __init__(self, origin: str, ssl_context: ssl.SSLContext, buffer: memoryview) -> None:
        parts = urlsplit(origin)
        assert parts.hostname is not None
        self._name = parts.hostname
        self._port = parts.port or _PORTS[parts.scheme]
        written = f"[{self._name}]" if ":" in self._name else self._name
        self.host = written if self._port == _PORTS[parts.scheme] else f"{written}:{self._port}"
        """As it stands in the header of that name."""
        self._ssl = ssl_context if parts.scheme == "https" else None
        self._buffer = buffer
        self._idle: deque[tuple[float, UpstreamConnection]] = deque()
        """Since when, the longest first."""
        self._open: set[UpstreamConnection] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._sweep: asyncio.TimerHandle | None = None
        self._addresses: list[AddrInfoType] = []
        self._known_until = 0.0
        self._looking: asyncio.Task[list[AddrInfoType]] | None = None
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None

    def idle(self) -> UpstreamConnection | None:
        """Return one that may be used at once."""
        while self._idle:
            since, connection = self._idle.pop()
            if self._loop.time() - since < IDLE_S and connection.usable:
                return connection
            connection.abort()
        return None

    async def take(self, *, new: bool = False) -> UpstreamConnection:
        """Return one that may be used; where all that may be are in use, when one comes free.

        Args:
            new: one on which nothing was sent yet.

        Raises:
            UpstreamGone: there is none in time.
        """
        try:
            async with asyncio.timeout(CONNECT_S):
                while True:
                    if not new and (connection := self.idle()) is not None:
                        return connection
                    if len(self._open) + self._opening < MOST_CONNECTIONS:
                        return await self._connected()
                    await self._turn()
        except (OSError, RuntimeError, UnicodeError) as error:
            # Some loops raise RuntimeError for addresses that cannot be; UnicodeError is for such names.
            raise UpstreamGone(f"the provider cannot be reached: {why(error)}.", sent=False) from None

    async def _turn(self) -> None:
        turn = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._next()
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def _connected(self) -> UpstreamConnection:
        self._opening += 1
        try:
            if self._closed:
                raise ConnectionAbortedError
            link = await start_connection(
                await self._resolved(), happy_eyeballs_delay=_STAGGER_S, interleave=1, loop=self._loop
            )
            try:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(buffer=self._buffer, free=self._freed, lost=self._lost),
                    sock=link,
                    ssl=self._ssl,
                    server_hostname=self._name if self._ssl is not None else None,
                )
            except BaseException:
                link.close()
                raise
            self._open.add(connection)
            if self._closed:
                connection.abort()
                raise ConnectionAbortedError
            return connection
        except BaseException:
            # They may have moved.
            self._known_until = 0.0
            self._next()
            raise
        finally:
            self._opening -= 1

    async def _resolved(self) -> list[AddrInfoType]:
        """Return the provider's addresses. Those who ask at the same time wait for one answer."""
        if self._known_until > self._loop.time():
            return self._addresses
        if self._looking is None:
            self._looking = self._loop.create_task(self._look_up(), name="look-up")
            # No one may be waiting for it any more.
            self._looking.add_done_callback(lambda done: done.cancelled() or done.exception())
        looking = self._looking
        try:
            return await asyncio.shield(looking)
        except asyncio.CancelledError:
            if self._closed and looking.cancelled():
                # It was not the one who waits that was cancelled.
                raise ConnectionAbortedError from None
            raise

    async def _look_up(self) -> list[AddrInfoType]:
        try:
            found = await self._loop.getaddrinfo(
                self._name, self._port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
            self._addresses = list(found)
            self._known_until = self._loop.time() + NAMES_S
            return self._addresses
        finally:
            self._looking = None

    def _freed(self, connection: UpstreamConnection) -> None:
        if self._closed:
            connection.abort()
            return
        self._idle.append((self._loop.time(), connection))
        if self._sweep is None:
            self._sweep = self._loop.call_later(IDLE_S, self._swept)
        if self._waiting:
            self._next()

    def _swept(self) -> None:
        """Close what was idle for too long."""
        self._sweep = None
        now = self._loop.time()
        while self._idle and now - self._idle[0][0] >= IDLE_S:
            self._idle.popleft()[1].abort()
        if self._idle:
            self._sweep = self._loop.call_at(self._idle[0][0] + IDLE_S, self._swept)

    def _lost(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        self._next()
        if not self._open and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def close(self) -> None:
        """Break all of them."""
        self._closed = True
        self._idle.clear()
        if self._sweep is not None:
            self._sweep.cancel()
        if self._looking is not None:
            self._looking.cancel()
        if self._open:
            self._emptied = self._loop.create_future()
            for connection in self._open:
                connection.abort()
            await asyncio.wait([self._emptied], timeout=_CLOSING_S)


def _head(method: str, target: str, host: str, headers: MultiMapping[str], length: int | None) -> bytes:
    """Return the head of a request.

    Raises:
        ValueError: something in it would end a line, and begin one that no one wrote.
    """
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    lines.append("\r\n")
    head = "\r\n".join(lines)
    ends = len(lines)
    if head.count("\r") != ends or head.count("\n") != ends or "\0" in head:
        raise ValueError("a header of the request holds a line end")
    return head.encode()
