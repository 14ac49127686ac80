"""The dashboard's stage. Its server is loaded only where muster.yaml has one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib import import_module

from bot.app.stages import Stage
from bot.commands.executor import Executor
from bot.reports.services import ReportServices


def stages(services: ReportServices, executor: Executor) -> list[Stage]:
    """Return the stage; none if there is no dashboard. It cannot start if its address cannot be used."""
    block = services.settings.web
    if block is None:
        return []
    stop: Callable[[], Coroutine[None, None, None]] | None = None

    async def listen() -> None:
        nonlocal stop
        await asyncio.to_thread(import_module, "bot.interfaces.web.server")
        from bot.interfaces.web.server import WebServer

        server = WebServer(services, executor, block)
        await server.start()
        services.web_address = server.where.url
        stop = server.stop

    async def close() -> None:
        if stop is not None:
            await stop()

    return [Stage("web", start=listen, stop=close)]
