"""Connection pools to the providers, without automatic retries of metered requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection
from multidict import MultiMapping

from egress.request.body_buffer import Body
from egress.upstream.connection_error_text import why
from egress.upstream.http1_connection import PIECE, UpstreamConnection
from egress.upstream.response_reader import Response, Unheard, UpstreamGone

#: The time limit for a connection, from the request for one to the end of the TLS handshake.
CONNECT_S: Final = 30.0
#: Connections to one provider. Each stream uses one, so this bounds the streams of all agents together.
MOST_CONNECTIONS: Final = 4_096
#: Shorter than the idle timeout of servers, so that they rarely close a connection in use.
IDLE_S: Final = 15.0
NAMES_S: Final = 60.0
#: The delay before the next address is tried in parallel (RFC 8305, section 5).
_STAGGER_S: Final = 0.25
_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
#: Safe to repeat (RFC 9110, section 9.2.2), and without a body here.
_REPEATABLE: Final = frozenset({"GET", "HEAD"})
_CLOSING_S: Final = 2.0


def check(upstream: str) -> str:
    """Return the address of an upstream, without a trailing slash.

    Raises:
        ValueError: it is not an address. The message says what to write.
    """
    if "@" in upstream:
        # The message omits the address: it may contain a password.
        raise ValueError("an upstream's address holds no user name and no password; name a credential instead.")
    try:
        parts = urlsplit(upstream)
        # A non-ASCII name has several encodings; the name in the request must match the certificate.
        known = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0 and parts.netloc.isascii()
    except ValueError:
        known = False
    if not known or parts.query or parts.fragment:
        raise ValueError(f"{upstream!r} is no address of a provider; write it like https://api.example.com.")
    return upstream.rstrip("/")


def host_header(origin: str) -> str:
    """Return the `Host` header for a provider's address (RFC 9110, section 7.2)."""
    parts = urlsplit(origin)
    name = parts.hostname or ""
    written = f"[{name}]" if ":" in name else name
    return written if parts.port in (None, _PORTS[parts.scheme]) else f"{written}:{parts.port}"


class Upstream:
    """The connection pools of all providers. Must be opened and closed in the loop that uses it."""

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        if ssl_context is None:
            ssl_context = ssl.create_default_context()
            ssl_context.set_alpn_protocols(["http/1.1"])
        self._ssl_context = ssl_context
        self._buffer = memoryview(bytearray(PIECE))
        self._pools: dict[str, _Pool] = {}
        self._closed = False

    async def close(self) -> None:
        """Abort all connections, and refuse to open new ones."""
        self._closed = True
        for pool in self._pools.values():
            await pool.close()

    async def send(self, method: str, url: str, headers: MultiMapping[str], body: Body | None) -> Response:
        """Send a request, and wait for the head of the response. The body is closed once it is sent.

        A server may close a connection just when a request is sent. Nobody can know then whether it read the request
        (RFC 9112, section 9.3.1). A model request is never sent again automatically, because two answers would be
        billed twice. The agent's client decides about a retry (`UpstreamGone.sent`). To keep this rare, connections
        stay idle only briefly. A connection that the server has visibly closed is not used. A repeatable request is
        sent once more, on a new connection.

        Raises:
            UpstreamGone: there is no response.
            ValueError: a header is invalid; nothing was sent.
        """
        slash = url.find("/", url.find("://") + 3)
        origin, target = (url, "/") if slash < 0 else (url[:slash], url[slash:])
        pool = self._pools.get(origin)
        if self._closed:
            raise UpstreamGone("the provider cannot be reached: the egress is stopping.", sent=False)
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
    """The idle connections to one provider, and the number that may still be opened."""

    def __init__(self, origin: str, ssl_context: ssl.SSLContext, buffer: memoryview) -> None:
        parts = urlsplit(origin)
        assert parts.hostname is not None
        self._name = parts.hostname
        self._port = parts.port or _PORTS[parts.scheme]
        self.host = host_header(origin)
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
        """Return an idle connection that is usable now, or None."""
        while self._idle:
            since, connection = self._idle.pop()
            if self._loop.time() - since < IDLE_S and connection.usable:
                return connection
            connection.abort()
        return None

    async def take(self, *, new: bool = False) -> UpstreamConnection:
        """Return a usable connection; if all are in use and no more may be opened, wait until one is free.

        Args:
            new: return only a connection that has not been used.

        Raises:
            UpstreamGone: no connection was available in time.
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
            # Some loops raise RuntimeError for impossible addresses; impossible names raise UnicodeError.
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
            # The provider's addresses may have changed.
            self._known_until = 0.0
            self._next()
            raise
        finally:
            self._opening -= 1

    async def _resolved(self) -> list[AddrInfoType]:
        """Return the provider's addresses. Concurrent callers share one lookup."""
        if self._known_until > self._loop.time():
            return self._addresses
        if self._looking is None:
            self._looking = self._loop.create_task(self._look_up(), name="look-up")
            # Retrieve the error even if no caller waits any more.
            self._looking.add_done_callback(lambda done: done.cancelled() or done.exception())
        looking = self._looking
        try:
            return await asyncio.shield(looking)
        except asyncio.CancelledError:
            if self._closed and looking.cancelled():
                # The lookup was canceled, not the caller.
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
        """Close connections that were idle for too long."""
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
        """Abort all connections."""
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
        ValueError: a line end in a value would inject another header.
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
