"""The web server that agents talk to: aiohttp's, with a bound on what it keeps of requests that nobody has looked at.

A request's head is parsed, and further requests behind it, before anything of this package hears of them. An agent that
never ends its heads, or sends requests ahead of their answers, would fill the memory of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from egress.answers import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp import StreamReader

#: A connection that is idle is closed after so long.
IDLE_S: Final = 120.0
#: Of one request: its first line and its headers. Those of the agents' runtimes have 2 or 3 KB.
LONGEST_HEAD: Final = 64 * 1024
#: Heads of requests that were sent ahead, of one connection.
MOST_AHEAD: Final = 128 * 1024
_LONGEST_HEADER: Final = 32_768
_MOST_HEADERS: Final = 128
_LINGER_S: Final = 2.0
_OPTIONS: Final[Mapping[str, Any]] = {
    # Who leaves is noticed at once, wherever the answer stands.
    "handler_cancellation": True,
    "access_log": None,
    "keepalive_timeout": IDLE_S,
    "max_line_size": _LONGEST_HEADER,
    "max_field_size": _LONGEST_HEADER,
    "max_headers": _MOST_HEADERS,
    "lingering_time": _LINGER_S,
}


class Server(web.Server):
    """Makes a protocol for each connection."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, broken: Callable[[str], None]
    ) -> None:
        """`broken` is told why something was no request."""
        super().__init__(handler, **_OPTIONS)
        self.broken = broken

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self.broken, self._loop, self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ("_body", "_broken", "_head")

    def __init__(self, server: Server, broken: Callable[[str], None], loop: Any, options: Mapping[str, Any]) -> None:
        super().__init__(server, loop=loop, **options)
        self._broken = broken
        self._body: StreamReader | None = None
        """Of the last request that came."""
        self._head = 0
        """Bytes that came since that was whole."""

    def data_received(self, data: bytes) -> None:
        known = self._request_count
        in_body = self._body is not None and not self._body.is_eof()
        super().data_received(data)
        if self._request_count != known and self._messages:
            last, self._body = self._messages[-1]
            head = _size(last) if self._head + len(data) > LONGEST_HEAD else 0
            self._head = 0
        elif in_body:
            return
        else:
            head = self._head = self._head + len(data)
        if head > LONGEST_HEAD:
            self._end(f"a request with a head of more than {LONGEST_HEAD} bytes")
        elif len(self._messages) > 1 and sum(_size(message) for message, _ in self._messages) > MOST_AHEAD:
            self._end(f"requests sent ahead with heads of more than {MOST_AHEAD} bytes")

    def connection_lost(self, exc: BaseException | None) -> None:
        self._body = None
        super().connection_lost(exc)

    def _end(self, why: str) -> None:
        self._broken(why)
        if self.transport is not None:
            self.transport.abort()
        self.force_close()

    def _make_error_handler(self, err_info: Any) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        """What is no request is answered in a word, and told in the audit instead of a log that it could fill."""

        async def refuse(request: web.BaseRequest) -> web.StreamResponse:
            why = " ".join(str(err_info.message).split("\n", 1)[0].split())[:100].rstrip(":")
            self._broken(f"a malformed request: {why}")
            answer = Answer(request)
            answer.refuse(400, ((b"Content-Type", b"text/plain"),), b"muster: the request is malformed.\n", close=True)
            return answer.given()

        return refuse


def _size(message: Any) -> int:
    raw = getattr(message, "raw_headers", None)
    # What is malformed has none.
    return 0 if raw is None else len(message.path) + sum(len(name) + len(value) for name, value in raw)
