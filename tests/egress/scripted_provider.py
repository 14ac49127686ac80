"""A provider that answers by hand, to the byte."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDict

from egress.request.body_buffer import Body
from egress.upstream.connection_pool import Upstream
from egress.upstream.response_reader import Response

LIMIT_S = 20.0
NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"


@dataclass
class Link:
    """One connection to it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[bytes] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """The client's end of it."""

    async def asked(self) -> bytes:
        """The next request, whole."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        _, _, length = head.partition(b"Content-Length: ")
        request = head + await self.reader.readexactly(int(length.split(b"\r\n")[0]) if length else 0)
        self.requests.append(request)
        return request

    async def say(self, content: bytes, *, bytewise: bool = False) -> None:
        """Write it, and let the client read it."""
        for piece in (content[place : place + 1] for place in range(len(content))) if bytewise else (content,):
            self.writer.write(piece)
            await asyncio.sleep(0)
        await self.writer.drain()

    async def end(self) -> None:
        """Wait until the client has closed it."""
        with contextlib.suppress(OSError):
            await self.reader.read()
        self.ended.set()


class Wire(asyncio.Transport):
    """In the place of a connection: what is written is gone, and it ends when it is told."""

    def __init__(self) -> None:
        self.aborted = self.paused = False
        self.unsent = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def fileno(self) -> int:
        return 0

    def write(self, data: Any) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@dataclass
class Scripted:
    """The provider, and a way to it."""

    way: Upstream
    url: str
    links: list[Link]

    async def get(self, method: str = "GET", body: Body | None = None) -> Response:
        """Ask."""
        return await self.way.send(method, f"{self.url}/v1/models", CIMultiDict({"X-A": "b"}), body)


@asynccontextmanager
async def scripted(
    serve: Callable[[Link], Awaitable[None]],
    *,
    server_tls: ssl.SSLContext | None = None,
    client_tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Scripted]:
    """A provider whose connections are served so; each is closed after that."""
    links: list[Link] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        links.append(link)
        try:
            await serve(link)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            link.ended.set()
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=server_tls)
    way = Upstream(ssl_context=client_tls)
    port = server.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(LIMIT_S):
            yield Scripted(way, f"https://localhost:{port}" if server_tls else f"http://127.0.0.1:{port}", links)
    finally:
        await way.close()
        for link in links:
            # Python before 3.11.4 cannot break a TLS connection that is gone.
            with contextlib.suppress(AttributeError):
                link.writer.transport.abort()
        server.close()
        await server.wait_closed()


async def content(response: Response) -> bytes:
    """All of it."""
    found = b""
    while piece := await response.readany():
        found += piece
    return found


async def forever(link: Link) -> None:
    """Answer every request in good order."""
    while True:
        await link.asked()
        await link.say(NEXT)
