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
#: More requests at one time are refused: the forge shows that, and the next look at the forge finds what was missed.
MOST_AT_ONCE = 512
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
    _runner: web.AppRunner | None = None
    _at_once: int = 0
    _group: GroupCommit = field(init=False)

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
        self._group = GroupCommit(self.write)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, once it was started."""
        assert self._runner is not None
        host, port = self._runner.addresses[0][:2]
        return str(host), int(port)

    async def start(self) -> None:
        """Start to listen.

        Raises:
            WebhookError: the port cannot be had.
        """
        application = web.Application(client_max_size=LARGEST_BODY)
        application.router.add_post(PATH, self._receive)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_STOP_LIMIT)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
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
        if runner is not None:
            await runner.cleanup()
            await self._group.close()

    async def _receive(self, http: web.Request) -> web.Response:
        if self._at_once >= MOST_AT_ONCE:
            return self._answer(503, "busy", "Too many deliveries at one time.")
        self._at_once += 1
        try:
            return await self._take(http)
        finally:
            self._at_once -= 1

    async def _take(self, http: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(READ_LIMIT):
                body = await http.read()
        except web.HTTPRequestEntityTooLarge:
            return self._answer(413, "too large", f"A delivery may have {LARGEST_BODY} bytes.")
        except TimeoutError:
            return self._answer(408, "too slow", f"The delivery took longer than {READ_LIMIT:.0f} s.")
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
        try:
            async with asyncio.timeout(WRITE_LIMIT):
                await self._group.add(event)
        except (TimeoutError, RegisterError) as error:
            _log.warning("forge.event_not_written", delivery=event.delivery, reason=str(error) or "too slow")
            return self._answer(503, "not written", "The event could not be written down. It will be looked for later.")
        return self._answer(200, "taken", "Taken.")

    def _answer(self, status: int, outcome: str, text: str) -> web.Response:
        self.counts.outcomes[outcome] += 1
        return web.Response(status=status, text=f"{text}\n")
