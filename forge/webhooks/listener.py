"""The address that forges send their events to.

A listener of its own, on this machine; a reverse proxy does TLS. Nothing but this one route is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from core.errors import MusterError, RegisterError
from forge.model.references import RepositoryName
from forge.webhooks.counts import WebhookCounts
from forge.webhooks.event import ForgeEvent, MalformedEvent, read_event
from forge.webhooks.group_commit import GroupCommit, Write
from forge.webhooks.signature import SHORTEST_SECRET, ForgeKind, is_signed

#: Where forges send their events.
PATH = "/webhook"
#: The largest body, bytes. A body that GitHub would send has at most 25 MB, one about an issue far less.
LARGEST_BODY = 2 * 1024 * 1024
#: More requests at one time, or more bytes of their bodies, are refused: the forge shows that, and the next look at the
#: forge finds what was missed.
MOST_AT_ONCE, MOST_HELD = 256, 32 * 1024 * 1024
#: More connections are closed unheard, so that a flood leaves files for others: a process often may open 1,024. It is
#: more than requests, so that who is refused is mostly told.
MOST_CONNECTIONS = 320
#: Bytes of a body that wait to be read, per connection.
_READ_AHEAD = 16 * 1024
#: Seconds after which a connection without a request is closed. Reverse proxies keep theirs for up to two minutes.
_IDLE_LIMIT = 150.0
#: Seconds for a body to arrive, and for the event to become durable: an answer comes in under a second.
READ_LIMIT, WRITE_LIMIT = 10.0, 0.8
_STOP_LIMIT = 1.0

_log = structlog.get_logger("forge.webhooks")


class WebhookError(MusterError):
    """Webhooks of the forge cannot be received."""

    code = "forge.webhooks"


@dataclass(slots=True)
class WebhookListener:
    """Takes signed events of the configured repositories, and writes them down before it answers."""

    kind: ForgeKind
    secret: str
    repositories: Collection[RepositoryName]
    write: Write
    host: str = "127.0.0.1"
    port: int = 0
    counts: WebhookCounts = field(default_factory=WebhookCounts)
    group: GroupCommit = field(init=False)
    _runner: web.AppRunner | None = None
    _listening: asyncio.Server | None = None
    _at_once: int = 0
    _held: int = 0

    def __post_init__(self) -> None:
        """Refuse a secret that is none.

        Raises:
            WebhookError: it is too short.
        """
        if len(self.secret) < SHORTEST_SECRET:
            raise WebhookError(
                f"The secret of the forge's webhook has {len(self.secret)} characters; at least {SHORTEST_SECRET} are "
                "needed, so that nobody else can send events. Make one with `openssl rand -hex 32`, and set it at the "
                "forge as well."
            )
        self.group = GroupCommit(self.write)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, once it was started."""
        assert self._listening is not None
        host, port = self._listening.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def start(self) -> None:
        """Start to listen.

        Raises:
            WebhookError: the port cannot be had.
        """
        application = web.Application()
        application.router.add_post(PATH, self._receive)
        runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=_STOP_LIMIT,
            keepalive_timeout=_IDLE_LIMIT,
            read_bufsize=_READ_AHEAD,
            auto_decompress=False,
        )
        await runner.setup()
        server = runner.server
        assert server is not None

        def connection() -> asyncio.Protocol:
            return server() if len(server.connections) < MOST_CONNECTIONS else self._unheard()

        try:
            self._listening = await asyncio.get_running_loop().create_server(
                connection, self.host, self.port, backlog=MOST_CONNECTIONS
            )
        except OSError as error:
            await runner.cleanup()
            raise WebhookError(
                f"Webhooks cannot be received on {self.host}:{self.port}: {error.strerror or error}. Change "
                "`forge: webhooks: listen` in muster.yaml, or end what listens there."
            ) from None
        self._runner = runner

    async def stop(self) -> None:
        """Close the port, after what arrived is written. Safe to call twice, and before `start`."""
        runner, self._runner = self._runner, None
        if self._listening is not None:
            self._listening.close()
        if runner is not None:
            await runner.cleanup()
            await self.group.close()

    async def _receive(self, http: web.Request) -> web.Response:
        if self._at_once >= MOST_AT_ONCE:
            return self._busy()
        self._at_once += 1
        body = bytearray()
        try:
            refusal = await self._refusal(http, body)
            return refusal if refusal is not None else await self._take(http, bytes(body))
        finally:
            self._at_once -= 1
            self._held -= len(body)

    async def _refusal(self, http: web.Request, body: bytearray) -> web.Response | None:
        """Read the body. Return the answer if that cannot be done."""
        try:
            async with asyncio.timeout(READ_LIMIT):
                async for chunk in http.content.iter_any():
                    body += chunk
                    self._held += len(chunk)
                    if len(body) > LARGEST_BODY:
                        return self._answer(413, "too large", f"A delivery may have {LARGEST_BODY} bytes.")
                    if self._held > MOST_HELD:
                        return self._busy()
        except TimeoutError:
            return self._answer(408, "too slow", f"The delivery took longer than {READ_LIMIT:.0f} s.")
        return None

    async def _take(self, http: web.Request, body: bytes) -> web.Response:
        if not is_signed(self.kind, http.headers, body, self.secret):
            return self._answer(
                401, "unsigned", "The signature is missing or wrong. Set the same secret on both sides."
            )
        try:
            event = read_event(self.kind, http.headers, body)
        except MalformedEvent as error:
            self.counts.last_malformed = str(error)
            _log.warning("forge.event_malformed", reason=str(error))
            return self._answer(400, "malformed", str(error))
        if event is None:
            return self._answer(200, "unsupported", "Muster has no use for events of this kind.")
        if event.repository not in self.repositories:
            return self._answer(200, "elsewhere", "This repository is not one of `forge: repositories`.")
        return await self._write(event)

    async def _write(self, event: ForgeEvent) -> web.Response:
        if self.group.is_full:
            return self._busy()
        try:
            async with asyncio.timeout(WRITE_LIMIT):
                await self.group.add(event)
        except (TimeoutError, RegisterError) as error:
            _log.warning("forge.event_not_written", delivery=event.delivery, reason=str(error) or "too slow")
            return self._answer(503, "not written", "The event could not be written down. It will be looked for later.")
        return self._answer(200, "taken", "Taken.")

    def _unheard(self) -> asyncio.Protocol:
        self.counts.outcomes["busy"] += 1
        return _Closed()

    def _busy(self) -> web.Response:
        return self._answer(503, "busy", "Too many deliveries at one time.")

    def _answer(self, status: int, outcome: str, text: str) -> web.Response:
        self.counts.outcomes[outcome] += 1
        return web.Response(status=status, text=f"{text}\n")


class _Closed(asyncio.Protocol):
    """A connection that there is no room for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
