"""The dashboard's HTTP server. Other than the gateway, it trusts nobody who connects."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

import structlog
from aiohttp import web

from bot.agents.services import AgentServices
from bot.commands.executor import Executor
from bot.config.surfaces.web import WebBlock, parse_listen
from bot.interfaces.web.acts import Acts
from bot.interfaces.web.assets import Assets
from bot.interfaces.web.guard import guard
from bot.interfaces.web.login_pages import LoginPages
from bot.interfaces.web.push.notifier import WaitingNotifier
from bot.interfaces.web.push.pages import PushPages
from bot.interfaces.web.push.sender import PushSender, contact_for
from bot.interfaces.web.reading import ReadingPages
from bot.interfaces.web.rendering import PageTemplates
from bot.interfaces.web.review.pages import ReviewPages
from bot.interfaces.web.settings import WebAddresses, addresses
from bot.interfaces.web.stream import Streams
from bot.web_access.sessions_of import access_to
from core.errors import MusterError

#: Bytes of a request's body. A message to an agent may have 100,000 characters, of up to nine bytes in a form.
LONGEST_BODY: Final = 1_048_576
#: Bytes of one line of a request, and of one header.
_LONGEST_LINE: Final = 4_096
#: Seconds for requests to end when the server stops.
_STOP_LIMIT: Final = 1.0

_log = structlog.get_logger("web")


@dataclass(slots=True)
class WebServer:
    """The server of one configuration."""

    services: AgentServices
    executor: Executor
    block: WebBlock
    where: WebAddresses = field(init=False)
    streams: Streams = field(init=False)
    sender: PushSender | None = field(init=False, default=None)
    notifier: WaitingNotifier | None = field(init=False, default=None)
    _runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        self.where = addresses(self.block)
        push = self.block.push
        if push is not None:
            services = self.services
            contact = contact_for(push.contact, self.where.url)
            self.sender = PushSender(services.paths.push_key, push.services, contact, services.clock)
            self.notifier = WaitingNotifier(services, access_to(services), self.sender)

    async def start(self) -> None:
        """Start to listen.

        Raises:
            MusterError: the address cannot be used, or pushes cannot be sent.
        """
        if self.sender is not None:
            await self.sender.open()
        runner = web.AppRunner(
            self.application(),
            access_log=None,
            shutdown_timeout=_STOP_LIMIT,
            handler_cancellation=True,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        await runner.setup()
        host, port = parse_listen(self.block.listen)
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            if self.sender is not None:
                await self.sender.close()
            raise MusterError(
                f"The dashboard cannot listen on {self.block.listen}: {error.strerror or error}. Set web.listen to "
                "another port in muster.yaml."
            ) from error
        self._runner = runner
        if self.notifier is not None:
            self.notifier.start()
        self.where = addresses(self.block, int(runner.addresses[0][1]))
        _log.info("web.listening", url=self.where.url)

    async def stop(self) -> None:
        """Disconnect all browsers. Safe to call twice, and before `start`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await self.streams.stop()
            await runner.cleanup()
        if self.notifier is not None:
            await self.notifier.stop()
        if self.sender is not None:
            await self.sender.close()

    def application(self) -> web.Application:
        """Return the application, which has no route of the gateway."""
        services, assets = self.services, Assets()
        pages = PageTemplates(services.redact, lambda: services.settings.timezone, assets.address)
        self.streams = Streams(services, pages)
        application = web.Application(client_max_size=LONGEST_BODY, middlewares=[guard(lambda: self.where, pages)])
        reading = ReadingPages(services, pages, lambda: self.where, self.streams, assets, self.sender is not None)
        acts = Acts(services, self.executor, pages, lambda: self.where)
        login = LoginPages(services, pages, lambda: self.where)
        if self.sender is not None and self.notifier is not None:
            application.add_routes(PushPages(acts, assets, self.sender, self.notifier).routes())
        application.add_routes([*reading.routes(), *acts.routes(), *ReviewPages(acts).routes(), *login.routes()])
        return application
