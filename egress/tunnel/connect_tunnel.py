"""CONNECT: a tunnel to a host that is listed, or to a metered one, where it ends in the egress itself.

What is asked for is checked before anything leaves: the target as it is written, the agent's routes, the addresses
behind the name, and then the first thing that the client says, which must be a TLS handshake for that very name. A
route to a private address carries anything: what was listed there is the address, and nothing else can be behind it.
What goes through a tunnel afterwards is counted, and ended at once when the agent is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import structlog

from core.safe_stream_write import send, send_end
from egress.tunnel import connect_request
from egress.tunnel.byte_relay import CHUNK, Flow, TunnelLimits
from egress.tunnel.checked_dns_resolver import HostUnreachable, NotPublic
from egress.tunnel.host_allowlist import NoTarget, RouteError, route, which
from egress.tunnel.tls_client_hello import NameNotShown

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from egress.limits.admission_interface import Gatekeeper
    from egress.tunnel.byte_relay import Traffic
    from egress.tunnel.checked_dns_resolver import Resolver
    from egress.tunnel.host_allowlist import IPAddress, Route, TunnelTarget

log = structlog.get_logger("egress.tunnel.connect_tunnel")

#: After a refusal the client has so long to take it in and to close, and may send so much before it does.
PARTING_S: Final = 1.0
MOST_UNREAD: Final = 16 * CHUNK
_REASONS: Final = {400: "Bad Request", 403: "Forbidden", 429: "Too Many Requests", 502: "Bad Gateway"}


class Caller(Protocol):
    """Whose tunnel it is."""

    @property
    def agent(self) -> str: ...

    @property
    def routes(self) -> tuple[str, ...]:
        """As they were written."""
        ...


C_contra = TypeVar("C_contra", bound=Caller, contravariant=True)


class Metered(Protocol[C_contra]):
    """Where connections to metered hosts go (egress.tunnel.tls_interception)."""

    def meters(self, host: str) -> bool:
        """Return whether a host is metered: then no tunnel leads there."""
        ...

    def open(self, caller: C_contra, wanted: TunnelTarget) -> socket.socket:
        """Return a connection on whose other end that host is answered for.

        Raises:
            NotServed: this agent has nothing to do there, or not on that port.
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
    """All tunnels of all agents. Of one event loop."""

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
        """`note` takes an agent, an action and its cause into the audit (bounded by whoever keeps it)."""
        self._gate = gate
        self._resolver = resolver
        self._metered = metered
        self._note = note
        self._on_traffic = on_traffic
        self._limits = limits or TunnelLimits()
        self._open: Counter[str] = Counter()
        self._flows: set[Flow] = set()

    def count(self, agent: str) -> int:
        """Return how many tunnels an agent has, or is about to have."""
        return self._open[agent]

    def close(self, agent: str | None = None) -> None:
        """Break an agent's tunnels off, or all of them: its routes are others now. What ends in the egress goes on."""
        for flow in list(self._flows):
            if (agent is None or flow.agent == agent) and not flow.intercepted:
                flow.abort("closed")

    async def serve(self, caller: _C, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection that begins with a CONNECT, until its tunnel is closed."""
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
            # The client is gone, or never said what it wants.
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer(self, caller: _C, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Return whether there was a tunnel. Otherwise the client was told why not."""
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
            # The client has its 200 already, and was told in its own protocol.
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
        # A metered request that is cut off gets its last words from its own handler, and no other passes the gate.
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
            # Whoever wrote it was told; here it opens nothing.
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
    """Let the last words arrive: a connection that is closed while bytes of the other end wait unread is reset, and
    what was written last is lost with it. So those are taken in, a while and so many."""
    with contextlib.suppress(OSError):
        async with asyncio.timeout(PARTING_S):
            await writer.drain()
            send_end(writer)
            for _ in range(MOST_UNREAD // CHUNK):
                if not await reader.read(CHUNK):
                    return


def _as_route(wanted: TunnelTarget) -> str:
    return wanted.host if wanted.port == 443 and ":" not in wanted.host else str(wanted)
