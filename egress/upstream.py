"""The way to the providers: one pool of connections, and nothing in it that thinks for itself."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import aiohttp
from aiohttp import payload
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from register.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multidict import CIMultiDict

    from egress.bodies import Body

CONNECT_S: Final = 30.0
#: Models think long without a word.
SILENCE_S: Final = 600.0
#: To one host. Each stream holds one, so that this bounds the streams of all agents together.
MOST_CONNECTIONS: Final = 4_096
#: What is read ahead of one response; it pauses at twice as much.
READ_AHEAD: Final = 2**15
_LONGEST_HEADER: Final = 32_768
_IDLE_S: Final = 15.0
#: Set by us, or not at all: the client library adds nothing of its own.
_SILENT: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class UpstreamGone(MusterError):
    """The provider could not be reached, or broke the connection."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent
        """The request may have reached the provider."""


def check(upstream: str) -> str:
    """The address of an upstream, without a slash at its end.

    Raises:
        ValueError: it is none. The message says what to write.
    """
    if "@" in upstream:
        # Not shown: it may hold a password.
        raise ValueError("an upstream's address holds no user name and no password; name a credential instead.")
    parts = urlsplit(upstream)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{upstream!r} is no address of a provider; write it like https://api.example.com.")
    return upstream.rstrip("/")


class Upstream:
    """To be opened in the loop that uses it, and closed."""

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        connector = _Connector(
            ssl=ssl_context or ssl.create_default_context(),
            limit=0,
            limit_per_host=MOST_CONNECTIONS,
            keepalive_timeout=_IDLE_S,
            ttl_dns_cache=60,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_SILENT,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=SILENCE_S),
            read_bufsize=READ_AHEAD,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )

    async def close(self) -> None:
        """Break what is still open."""
        await self._session.close()

    async def send(self, method: str, url: str, headers: CIMultiDict[str], body: Body | None) -> aiohttp.ClientResponse:
        """Send a request, and wait for the head of the response.

        Raises:
            UpstreamGone: there is no response.
        """
        data: payload.Payload | None = None
        if body is not None and (body.size or method not in {"GET", "HEAD"}):
            headers["Content-Length"] = str(body.size)
            if body.size:
                data = _Sent(body)
        try:
            return await self._session.request(
                method, URL(url, encoded=True), headers=headers, data=data, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UpstreamGone(f"the provider cannot be reached: {_why(error)}.", sent=False) from None
        except (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError) as error:
            raise UpstreamGone(f"the provider gave no answer: {_why(error)}.", sent=True) from None


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast("partial[ResponseHandler]", partial(_Connection, loop=self._loop))


class _Connection(ResponseHandler):
    """Winds its clock up once per silence, and not anew for every piece that comes, as the library does.

    The clock looks when it runs out whether anything came meanwhile.
    """

    #: When the silence is too long; None: nothing is awaited.
    _until: float | None = None

    def _reschedule_timeout(self) -> None:
        if not self._read_timeout:
            self._until = None
            return
        self._until = self._loop.time() + self._read_timeout
        if self._read_timeout_handle is None:
            self._read_timeout_handle = self._loop.call_at(self._until, self._look)

    def _drop_timeout(self) -> None:
        self._until = None

    def _look(self) -> None:
        self._read_timeout_handle = None
        if self._until is None:
            return
        if self._until > self._loop.time():
            self._read_timeout_handle = self._loop.call_at(self._until, self._look)
        else:
            self._on_read_timeout()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._read_timeout_handle is not None:
            self._read_timeout_handle.cancel()
            self._read_timeout_handle = None


def abort(response: aiohttp.ClientResponse) -> None:
    """Break the connection of a response at once, so that the provider stops generating. Never waits."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


def _why(error: BaseException) -> str:
    """The kind of error, without addresses, headers or anything else that was sent."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return "its certificate is not valid"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not found"
    if isinstance(error, TimeoutError):
        return "the time for it is over"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__


class _Sent(payload.Payload):
    """A request body on its way."""

    #: Whoever made the body closes it.
    _autoclose = True

    def __init__(self, body: Body) -> None:
        super().__init__(body, content_type="application/octet-stream")
        self._body = body

    @property
    def size(self) -> int:
        return self._body.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Only for showing it; nobody is shown it."""
        return ""

    async def write(self, writer: aiohttp.abc.AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: aiohttp.abc.AbstractStreamWriter, content_length: int | None) -> None:
        try:
            if not self._body.long:
                await writer.write(self._body.content())
                return
            pieces: AsyncIterator[bytes] = self._body.pieces()
            async for piece in pieces:
                await writer.write(piece)
        finally:
            # It is sent once. What it took is not kept for as long as the response streams.
            self._body.close()
