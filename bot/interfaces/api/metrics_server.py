"""``GET /metrics`` on a TCP port, for whoever has the token."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass

import structlog
from aiohttp import hdrs, web

from bot.agents.services import AgentServices
from bot.text.errors import UserError

#: Of Prometheus' text format 0.0.4.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Seconds for a scrape to end when Muster stops.
_STOP_LIMIT = 1.0

_log = structlog.get_logger("metrics")


@dataclass(slots=True)
class MetricsServer:
    """Nothing but metrics is here: the gateway's routes have no permissions of their own and stay on their socket."""

    services: AgentServices
    host: str
    port: int
    token: str
    _runner: web.AppRunner | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, once it was started."""
        assert self._runner is not None
        host, port = self._runner.addresses[0][:2]
        return str(host), int(port)

    async def start(self) -> None:
        """Start to listen.

        Raises:
            UserError: the port cannot be had.
        """
        application = web.Application(client_max_size=1)
        application.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_STOP_LIMIT)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except OSError as error:
            await runner.cleanup()
            raise UserError(
                f"Metrics cannot be served on {self.host}:{self.port}: {error.strerror or error}. Change "
                "`metrics: listen` in muster.yaml, or end what listens there.",
                code="metrics.port",
            ) from None
        self._runner = runner

    async def stop(self) -> None:
        """Close the port. Safe to call twice, and before `start`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self.stop()

    async def _metrics(self, http: web.Request) -> web.Response:
        scheme, _, given = http.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        known = hmac.compare_digest(given.strip().encode(), self.token.encode())
        if scheme.casefold() != "bearer" or not known:
            return web.Response(
                status=401,
                text="Send the token of `metrics: token` in muster.yaml as `Authorization: Bearer TOKEN`.\n",
                headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
            )
        return await answer(self.services)


async def answer(services: AgentServices) -> web.Response:
    """Return all metrics as a response."""
    from bot.monitoring import metrics  # loaded with the first scrape: most installations have none

    body = services.redact((await metrics.exposition(services)).decode())
    return web.Response(body=body.encode(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})
