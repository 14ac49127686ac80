"""CONNECT: a tunnel to an allowed host, or to a metered host, where it ends in the egress itself.

Checks come before any byte leaves. They cover the form of the target, the agent's routes, and the addresses of the
name. Then the client's first bytes must be a TLS handshake for that very name. A route to a private address carries any
protocol, because the address itself was listed and no other host can be behind it. Tunnel traffic is counted, and ends
at once when the agent is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

import structlog

from core.safe_stream_write import send, send_end
from egress.limits.admission_interface import Gatekeeper
from egress.tunnel import connect_request
from egress.tunnel.byte_relay import CHUNK, Flow, Traffic, TunnelLimits
from egress.tunnel.checked_dns_resolver import HostUnreachable, NotPublic, Resolver
from egress.tunnel.host_allowlist import IPAddress, NoTarget, Route, RouteError, TunnelTarget, route, which
from egress.tunnel.tls_client_hello import NameNotShown

log = structlog.get_logger("egress.tunnel.connect_tunnel")

#: After a refusal, how long the client has to read it and to close, and how many bytes it may send before that.
PARTING_S: Final = 1.0
MOST_UNREAD: Final = 16 * CHUNK
_REASONS: Final = {400: "Bad Request", 403: "Forbidden", 429: "Too Many Requests", 502: "Bad Gateway"}


class Caller(Protocol):
    """The owner of a tunnel."""

    @property
    def agent(self) -> str: ...

    @property
    def routes(self) -> tuple[str, ...]:
        """Its routes, as written."""
        ...


C_contra = TypeVar("C_contra", bound=Caller, contravariant=True)


class Metered(Protocol[C_contra]):
    """Handles connections to metered hosts (egress.tunnel.tls_interception)."""

    def meters(self, host: str) -> bool:
        """Return whether a host is metered: then no tunnel leads there."""
        ...

    def open(self, caller: C_contra, wanted: TunnelTarget) -> socket.socket:
        """Return a connection whose other end answers for that host.

        Raises:
            NotServed: this agent has no account there, or the port is wrong.
        """
        ...


class NotServed(Exception):
    """A metered host is closed to this agent. The message says why."""


class _Refusal(Exception):
    def __init__(self, status: int, message: str, *, audited: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.audited = audited


_C = TypeVar("_C", bound=Caller)


class Tunnels(Generic[_C]):
    """All tunnels of all agents. Belongs to one event loop."""

    def __init__(
        self,
        *,
        gate: Gatekeeper,
        resolver: Resolver,
        metered: Metered[_C],
        note: Callable[[str, str, str], None],
        on_traffic: Callable[[Traffic], None],
        limits: TunnelLimits | None = None,
    ) -> None:
        """`note` writes an agent, an action and its cause to the audit; it must bound the number of rows itself."""
        self._gate = gate
        self._resolver = resolver
        self._metered = metered
        self._note = note
        self._on_traffic = on_traffic
        self._limits = limits or TunnelLimits()
        self._open: Counter[str] = Counter()
        self._flows: set[Flow] = set()

    def count(self, agent: str) -> int:
        """Return how many tunnels an agent has open or is opening."""
        return self._open[agent]

    def close(self, agent: str | None = None) -> None:
        """Abort the tunnels of one agent, or of all, because its routes changed. Intercepted connections continue."""
        for flow in list(self._flows):
            if (agent is None or flow.agent == agent) and not flow.intercepted:
                flow.abort("closed")

    async def serve(self, caller: _C, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection that starts with a CONNECT, until its tunnel is closed."""
        agent = caller.agent
        try:
            if self._open[agent] >= self._limits.tunnels:
                _refuse(writer, _Refusal(429, f"{agent} has {self._open[agent]} tunnels open, as many as it may."))
                await _part(reader, writer)
                return
            self._open[agent] += 1
            try:
                well = await self._answer(caller, reader, writer)
            finally:
                self._open[agent] -= 1
                if not self._open[agent]:
                    del self._open[agent]
            if not well:
                await _part(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            # The client is gone, or never sent a complete request.
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer(self, caller: _C, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Return whether there was a tunnel. If not, the client received the reason."""
        asked = "an unreadable target"
        try:
            wanted = await self._wanted(reader)
            asked = str(wanted)
            await self._serve(caller, reader, writer, wanted)
        except _Refusal as refusal:
            if refusal.audited:
                told = str(refusal)
                self._note(caller.agent, "route-refused", told if asked in told else f"{asked}: {told}")
            _refuse(writer, refusal)
        except NameNotShown as error:
            # The client already has its 200, and received a TLS alert.
            self._note(caller.agent, "route-refused", f"{asked}: {error}")
        else:
            return True
        return False

    async def _wanted(self, reader: asyncio.StreamReader) -> TunnelTarget:
        try:
            async with asyncio.timeout(self._limits.head_s):
                head = await reader.readuntil(connect_request.END)
            if len(head) > connect_request.LONGEST_HEAD:
                raise asyncio.LimitOverrunError("too long", 0)
            return connect_request.read(head)
        except NoTarget as error:
            raise _Refusal(400, str(error)) from None
        except asyncio.LimitOverrunError:
            raise _Refusal(400, f"a CONNECT has at most {connect_request.LONGEST_HEAD} bytes.") from None

    async def _serve(
        self, caller: _C, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wanted: TunnelTarget
    ) -> None:
        if (denied := self._gate.denied(caller.agent)) is not None:
            raise _Refusal(403, denied.reason, audited=False)
        intercepted = self._metered.meters(wanted.host)
        flow = Flow(caller.agent, wanted, self._limits, reader, writer, intercepted=intercepted)
        # The handler of a metered request ends it with an error response, and admission control refuses all others.
        unwatch = None if intercepted else self._gate.watch(caller.agent, flow.cut_off)
        self._flows.add(flow)
        try:
            link = self._inside(caller, wanted) if intercepted else await self._outside(caller, wanted)
            if flow.cut is not None:
                link.close()
                raise _Refusal(403, flow.cut.reason, audited=False)
            await flow.run(link)
        finally:
            if unwatch is not None:
                unwatch()
            self._flows.discard(flow)
            if flow.began is not None:
                self._on_traffic(flow.traffic())

    def _inside(self, caller: _C, wanted: TunnelTarget) -> socket.socket:
        try:
            return self._metered.open(caller, wanted)
        except NotServed as error:
            raise _Refusal(403, str(error)) from None

    async def _outside(self, caller: _C, wanted: TunnelTarget) -> socket.socket:
        if which(_routes(caller.routes), wanted) is None:
            raise _Refusal(
                403,
                f"{wanted} is none of this sandbox's routes. An operator opens it by adding {_as_route(wanted)!r} to "
                "the routes of its sandbox profile in muster.yaml.",
            )
        try:
            addresses: Sequence[IPAddress] = await self._resolver.addresses(wanted, agent=caller.agent)
            return await self._resolver.connect(addresses, wanted.port)
        except NotPublic as error:
            raise _Refusal(403, str(error)) from None
        except HostUnreachable as error:
            raise _Refusal(502, str(error), audited=False) from None


@functools.lru_cache(maxsize=256)
def _routes(written: tuple[str, ...]) -> tuple[Route, ...]:
    found = []
    for each in written:
        try:
            found.append(route(each))
        except RouteError as error:
            # Registration already reported the error; here the route opens nothing.
            log.warning("a route cannot be read", error=str(error))
    return tuple(found)


def _refuse(writer: asyncio.StreamWriter, refusal: _Refusal) -> None:
    content = f"muster: {refusal}\n".encode()
    head = (
        f"HTTP/1.1 {refusal.status} {_REASONS[refusal.status]}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(content)}\r\n"
        "Connection: close\r\n\r\n"
    )
    send(writer, head.encode("ascii") + content)


async def _part(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let the refusal arrive. Closing a connection with unread bytes resets it, and the refusal would be lost. So the
    client's bytes are read, within limits of time and size."""
    with contextlib.suppress(OSError):
        async with asyncio.timeout(PARTING_S):
            await writer.drain()
            send_end(writer)
            for _ in range(MOST_UNREAD // CHUNK):
                if not await reader.read(CHUNK):
                    return


def _as_route(wanted: TunnelTarget) -> str:
    return wanted.host if wanted.port == 443 and ":" not in wanted.host else str(wanted)
