"""The bytes of one tunnel, in both directions: checked until the target is confirmed, counted, and cut off at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from core.safe_stream_write import send, send_end
from egress.limits.admission_interface import Cut
from egress.tunnel.checked_dns_resolver import is_public
from egress.tunnel.host_allowlist import TunnelTarget
from egress.tunnel.tls_client_hello import ClientHelloReader, NameNotShown

#: Bytes per read and write.
CHUNK: Final = 64 * 1024
#: The TLS alert for a handshake with the wrong host name (fatal, unrecognized_name; RFC 8446, section 6).
_UNRECOGNIZED_NAME: Final = bytes.fromhex("15030100020270")
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"

HowEnded: TypeAlias = Literal["closed", "idle", "cut", "refused", "broken"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TunnelLimits:
    """Limits on one agent's tunnels."""

    tunnels: int = 64
    """The number of open tunnels."""
    head_s: float = 10.0
    """From the start of the connection until the CONNECT is complete."""
    hello_s: float = 10.0
    """From the start of the tunnel until the TLS handshake has named its host."""
    idle_s: float = 900.0
    """Without a byte in either direction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """The traffic of one closed tunnel."""

    agent: str
    host: str
    port: int
    sent: int
    """Bytes from the agent."""
    received: int
    seconds: float
    ended: HowEnded


class Flow:
    """The bytes of one tunnel, in both directions."""

    def __init__(
        self,
        agent: str,
        wanted: TunnelTarget,
        limits: TunnelLimits,
        reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        *,
        intercepted: bool,
    ) -> None:
        self.agent = agent
        self.intercepted = intercepted
        self._wanted = wanted
        self._limits = limits
        self.cut: Cut | None = None
        self.began: float | None = None
        self._ended: HowEnded | None = None
        self._sent = 0
        self._received = 0
        self._reader = reader
        self._client = client
        self._far: asyncio.StreamWriter | None = None
        plain = wanted.ip is not None and not is_public(wanted.ip)
        self._door = None if plain else ClientHelloReader(wanted.host, is_address=wanted.ip is not None)

    def cut_off(self, cut: Cut) -> None:
        """Stop all traffic at once, because the agent is cut off."""
        self.cut = cut
        self.abort("cut")

    def abort(self, how: HowEnded) -> None:
        """Break the tunnel at once. Never waits."""
        self._ended = self._ended or how
        if self._far is not None:
            self._far.transport.abort()
        if self.began is not None:
            self._client.transport.abort()

    def traffic(self) -> Traffic:
        """Return the traffic so far."""
        assert self.began is not None
        return Traffic(
            agent=self.agent,
            host=self._wanted.host,
            port=self._wanted.port,
            sent=self._sent,
            received=self._received,
            seconds=time.monotonic() - self.began,
            ended=self._ended or "closed",
        )

    async def run(self, link: socket.socket) -> None:
        """Confirm the tunnel to the client, and relay bytes until both ends are done.

        Raises:
            NameNotShown: the client's first bytes were not allowed; none of them were sent.
        """
        try:
            far_reader, far = await asyncio.open_connection(sock=link, limit=CHUNK)
        except BaseException:
            link.close()
            raise
        self._far = far
        self.began = time.monotonic()
        try:
            if self._ended is not None:
                self.abort(self._ended)
            else:
                send(self._client, _ESTABLISHED)
                await self._carry(far_reader, far)
        finally:
            if self._ended is None:
                far.close()
            else:
                far.transport.abort()

    async def _carry(self, far_reader: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        first = self._limits.idle_s if self._door is None else self._limits.hello_s
        try:
            async with asyncio.timeout(first) as limit:
                there = loop.create_task(self._there(far, limit), name="tunnel there")
                back = loop.create_task(self._back(far_reader, limit), name="tunnel back")
                try:
                    await asyncio.gather(there, back)
                finally:
                    there.cancel()
                    back.cancel()
                    await asyncio.gather(there, back, return_exceptions=True)
        except NameNotShown:
            self._ended = "refused"
            with contextlib.suppress(OSError):
                send(self._client, _UNRECOGNIZED_NAME)
            raise
        except TimeoutError:
            self._ended = self._ended or "idle"
            if self._door is not None and not self._door.opened:
                raise NameNotShown("its client did not send a TLS handshake with its host in time.") from None
        except OSError:
            self._ended = self._ended or "broken"

    async def _there(self, far: asyncio.StreamWriter, limit: asyncio.Timeout) -> None:
        content = await self._reader.read(CHUNK)
        while content and self._ended is None:
            passing = content
            if self._door is not None and not self._door.settled:
                passing = self._door.feed(content)
            if passing:
                self._sent += len(passing)
                send(far, passing)
                await far.drain()
                self._alive(limit)
            content = await self._reader.read(CHUNK)
        if self._door is not None and not self._door.opened and self._ended is None:
            raise NameNotShown("its client left before it had said, by a TLS handshake, whom it is for.")
        with contextlib.suppress(OSError):
            send_end(far)

    async def _back(self, far: asyncio.StreamReader, limit: asyncio.Timeout) -> None:
        while (content := await far.read(CHUNK)) and self._ended is None:
            self._received += len(content)
            send(self._client, content)
            await self._client.drain()
            if self._door is None or self._door.opened:
                self._alive(limit)
        with contextlib.suppress(OSError):
            send_end(self._client)

    def _alive(self, limit: asyncio.Timeout) -> None:
        """Restart the idle timeout, at most once a second: a timer for every chunk would be expensive."""
        until = asyncio.get_running_loop().time() + self._limits.idle_s
        when = limit.when()
        if not limit.expired() and (when is None or abs(until - when) > min(1.0, self._limits.idle_s / 10)):
            limit.reschedule(until)
