"""The socket on which the agent reaches Muster's own tools: the Model Context Protocol, a message a line.

Whoever can connect is the agent: the socket is shown in its sandbox and in no other. It may be hostile all the same:
lines, connections and open calls are bounded, and nothing is reached from here but the tools that were offered.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Final

from core import unix_sockets
from fleet.host.mcp.pending_tool_calls import PendingToolCalls

_LINE_LIMIT: Final = 2**20
_CONNECTIONS: Final = 4


class ToolServer:
    """Serves one agent."""

    def __init__(self, desk: PendingToolCalls) -> None:
        self._desk = desk
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[Any] | None = None

    async def start(self, path: Path, *, soon: bool = False) -> None:
        """Listen at `path`; what an earlier agent host left there is replaced.

        Args:
            soon: the runtime connects as soon as it can, and some do not wait for the tools.
        """
        self._server = await asyncio.start_unix_server(self._accept, sock=unix_sockets.listen(path), limit=_LINE_LIMIT)
        if soon:
            self._loading = asyncio.create_task(asyncio.to_thread(_loaded), name="loading tools")

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        everything = [*self._connections, *([self._loading] if self._loading is not None else [])]
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _CONNECTIONS or not unix_sockets.is_own(writer.get_extra_info("socket")):
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="tools connection")
        self._connections.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        if not task.cancelled():
            # A connection of the agent's that broke is the agent's own affair.
            task.exception()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # The library takes a second and 32 MB; only agents that use the tools pay for it.
            serve = await asyncio.to_thread(_loaded)
            await serve(self._desk, reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1)


def _loaded() -> Any:
    from fleet.host.mcp.mcp_connection import serve

    return serve
