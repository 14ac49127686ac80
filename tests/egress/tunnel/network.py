"""A tunnel's surroundings in a test: an agent's listener, a TLS server somewhere out there, and a way to get there."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

from egress.ledger.model import Observation
from egress.limits.admission_interface import AdmissionRequest, AdmittedRequest, Cut
from egress.tunnel.byte_relay import Traffic, TunnelLimits
from egress.tunnel.certificate_authority import CertificateAuthority
from egress.tunnel.checked_dns_resolver import Resolver
from egress.tunnel.connect_tunnel import NotServed, Tunnels
from egress.tunnel.host_allowlist import IPAddress, TunnelTarget

_T = TypeVar("_T")
Streams: TypeAlias = "tuple[asyncio.StreamReader, asyncio.StreamWriter]"
LIMIT_S = 20.0
#: Public, and never connected to: `Elsewhere` goes to the test's own server instead.
PUBLIC = "151.101.0.223"


@dataclass
class Agent:
    agent: str = "coder0"
    routes: tuple[str, ...] = ("docs.python.org", "*.example.org")


class Gate:
    """Admits no request (there are none here), and knows who is cut off."""

    def __init__(self) -> None:
        self.cuts: dict[str, Cut] = {}
        self.watching: list[tuple[str, Callable[[Cut], None]]] = []

    async def admit(self, asked: AdmissionRequest) -> AdmittedRequest:
        raise NotImplementedError

    def denied(self, agent: str) -> Cut | None:
        return self.cuts.get(agent)

    def observe(self, observations: tuple[Observation, ...]) -> None:
        raise NotImplementedError

    def watch(self, agent: str, act: Callable[[Cut], None]) -> Callable[[], None]:
        entry = (agent, act)
        self.watching.append(entry)
        return lambda: self.watching.remove(entry)

    def cut(self, agent: str) -> None:
        cut = self.cuts[agent] = Cut(reason=f"{agent} was cut off.")
        for watched, act in list(self.watching):
            if watched == agent:
                act(cut)


class Elsewhere(Resolver):
    """Looks names up as it is told, checks them as always, and connects to the test's own server in their place."""

    def __init__(self, answers: dict[str, list[list[str]]], port: int) -> None:
        super().__init__(self._answer)
        self.answers = answers
        self.port = port
        self.went: list[tuple[list[str], int]] = []
        self.meanwhile: Callable[[], None] = lambda: None
        """Called when an address is known and no connection is there yet."""

    async def _answer(self, name: str) -> Sequence[str]:
        answers = self.answers.get(name.removesuffix("."))
        if not answers:
            raise OSError("Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect(self, addresses: Sequence[IPAddress], port: int) -> socket.socket:
        self.went.append(([str(each) for each in addresses], port))
        self.meanwhile()
        return await super().connect([ipaddress.ip_address("127.0.0.1")], self.port)


class NothingMetered:
    def meters(self, host: str) -> bool:
        return host == "api.anthropic.com"

    def open(self, caller: Agent, wanted: TunnelTarget) -> socket.socket:
        raise NotServed(f"{wanted.host} is metered, and {caller.agent} has no account.")


@dataclass
class Street:
    """Everything that a test looks at."""

    tunnels: Tunnels[Agent]
    gate: Gate
    resolver: Elsewhere
    port: int
    """Of the agent's listener."""
    site: int
    """The port of a server out there that speaks TLS as docs.python.org."""
    trusted: Path
    """Certificates by which it is verified."""
    far: asyncio.Queue[Streams]
    """Connections that reached a server out there of which the test itself is the mind. Tunnels lead to this one."""
    notes: list[tuple[str, str, str]]
    traffic: asyncio.Queue[Traffic]
    agent: Agent = field(default_factory=Agent)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def call(self, request: str | bytes) -> Streams:
        """Open a connection and send this."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        writer.write(request.encode() if isinstance(request, str) else request)
        return reader, writer

    async def tunnel(self, authority: str = "docs.python.org:443") -> Streams:
        """Ask for a tunnel as a plain client does, and expect it to open."""
        reader, writer = await self.call(connect(authority))
        head = await within(reader.readuntil(b"\r\n\r\n"))
        assert head.startswith(b"HTTP/1.1 200 "), head
        return reader, writer

    async def answer(self, request: str | bytes) -> str:
        """The whole answer to a request that is refused."""
        reader, _ = await self.call(request)
        return (await within(reader.read())).decode()

    async def next_far(self) -> Streams:
        reader, writer = await within(self.far.get())
        self._writers.append(writer)
        return reader, writer

    async def next_traffic(self) -> Traffic:
        return await within(self.traffic.get())

    def close(self) -> None:
        while not self.far.empty():
            self._writers.append(self.far.get_nowait()[1])
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def street(folder: Path, limits: TunnelLimits | None = None) -> AsyncIterator[Street]:
    """All of it, while the block runs."""
    far: asyncio.Queue[Streams] = asyncio.Queue()
    authority = CertificateAuthority(folder / "theirs", folder / "trust", system=folder / "none")
    authority.cover(["docs.python.org"])
    server = await asyncio.start_server(lambda *streams: far.put_nowait(streams), "127.0.0.1")
    site = await asyncio.start_server(_page, "127.0.0.1", ssl=authority.context("docs.python.org"))
    gate = Gate()
    resolver = Elsewhere({"docs.python.org": [[PUBLIC]], "a.example.org": [[PUBLIC]]}, _port(server))
    notes: list[tuple[str, str, str]] = []
    traffic: asyncio.Queue[Traffic] = asyncio.Queue()
    tunnels: Tunnels[Agent] = Tunnels(
        gate=gate,
        resolver=resolver,
        metered=NothingMetered(),
        note=lambda *note: notes.append(note),
        on_traffic=traffic.put_nowait,
        limits=limits,
    )
    agent = Agent()
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        await tunnels.serve(agent, reader, writer)

    listener = await asyncio.start_server(serve, "127.0.0.1")
    made = Street(
        tunnels=tunnels,
        gate=gate,
        resolver=resolver,
        port=_port(listener),
        site=_port(site),
        trusted=authority.certificates_file,
        far=far,
        notes=notes,
        traffic=traffic,
        agent=agent,
    )
    try:
        yield made
    finally:
        made.close()
        tunnels.close()
        for each in (listener, server, site):
            each.close()
        await within(asyncio.gather(*serving))


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")
    await writer.drain()
    writer.close()


def connect(authority: str, *, host: str | None = None, more: str = "") -> str:
    """A CONNECT, as clients write it."""
    return f"CONNECT {authority} HTTP/1.1\r\nHost: {host or authority}\r\n{more}\r\n"


async def within(work: Awaitable[_T]) -> _T:
    """Wait for this, not for ever."""
    async with asyncio.timeout(LIMIT_S):
        return await work
