"""The gateway's stage: its socket listens at once, and its HTTP server is loaded when somebody connects. Also the
stage of the metrics' own port.

Loading it takes a tenth of the start, and nobody at a prompt or in a chat room needs it for an answer.
"""

from __future__ import annotations

import asyncio
import socket
from importlib import import_module

from bot.app.stages import Stage
from bot.commands.executor import Executor
from bot.interfaces.api.gateway_socket import GatewaySocket
from bot.reports.services import ReportServices
from core.async_waits import set_within

#: Seconds until the server is loaded without a client, so that the first one need not wait for it.
_IDLE_S = 2.0


def stage(services: ReportServices, executor: Executor) -> Stage:
    """Return the stage. It cannot start if its socket cannot be created."""
    listener: GatewaySocket | None = None

    async def listen() -> None:
        nonlocal listener
        listener = GatewaySocket.at(services.paths.gateway_socket)

    async def serve() -> None:
        assert listener is not None
        await _connected(listener.socket, _IDLE_S)
        await asyncio.to_thread(import_module, "bot.interfaces.api.server")
        from bot.interfaces.api.server import Gateway

        gateway = Gateway(services, executor, services.paths.gateway_socket, listener)
        await gateway.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await gateway.stop()

    async def close() -> None:
        if listener is not None:
            listener.close()

    return Stage("gateway", start=listen, run=serve, stop=close)


def metrics_stage(services: ReportServices) -> Stage | None:
    """Return the stage of the metrics' own port, or None if none is configured.

    It cannot start without its token, or if the port cannot be had.
    """
    settings = services.settings.metrics
    endpoint, token = settings.endpoint, settings.token
    if endpoint is None or token is None:
        return None
    from bot.interfaces.api.metrics_server import MetricsServer

    server = MetricsServer(services, *endpoint, token.resolve(services.environ))
    return Stage("metrics", start=server.start, run=server.run, stop=server.stop)


async def _connected(listening: socket.socket, limit_s: float) -> None:
    """Wait until somebody connects, or until the time is over."""
    loop, connected = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listening, connected.set)
    try:
        await set_within(connected, limit_s)
    finally:
        loop.remove_reader(listening)
