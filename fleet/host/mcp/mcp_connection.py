"""The Model Context Protocol on one connection, by the protocol's own library."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any, Final

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.lowlevel import Server
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from core.crash_points import around, declare
from fleet.host.mcp.pending_tool_calls import PendingToolCalls
from fleet.tools import SERVER

TELL: Final = declare("call.tell")

#: Who does not take what was written for it in this time is dropped.
_TAKE_S: Final = 30.0


async def serve(desk: PendingToolCalls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve a connection until its end. What is no protocol ends it."""
    server = _server(desk)
    heard: tuple[MemoryObjectSendStream[Any], MemoryObjectReceiveStream[Any]] = anyio.create_memory_object_stream(0)
    told: tuple[MemoryObjectSendStream[Any], MemoryObjectReceiveStream[Any]] = anyio.create_memory_object_stream(0)
    async with heard[0], heard[1], told[0], told[1]:
        working = [
            asyncio.ensure_future(_read(reader, heard[0])),
            asyncio.ensure_future(_write(writer, told[1])),
            asyncio.ensure_future(server.run(heard[1], told[0], server.create_initialization_options())),
        ]
        try:
            await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, heard: MemoryObjectSendStream[Any]) -> None:
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            return
        if not line.endswith(b"\n"):
            return
        try:
            message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except (ValidationError, RecursionError):
            return
        await heard.send(SessionMessage(message))


async def _write(writer: asyncio.StreamWriter, told: MemoryObjectReceiveStream[Any]) -> None:
    async for message in told:
        line = message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
        with around(TELL):
            writer.write(line)
            async with asyncio.timeout(_TAKE_S):
                await writer.drain()


def _server(desk: PendingToolCalls) -> Server[dict[str, Any]]:
    offered = [
        types.Tool(name=tool.name, description=tool.description, input_schema=dict(tool.input_schema))
        for tool in desk.tools.values()
    ]

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=offered)

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        answer = await desk.call(params.name, params.arguments or {})
        return types.CallToolResult(content=[types.TextContent(type="text", text=answer.text)], is_error=not answer.ok)

    return Server(SERVER, version=version("muster-fleet"), on_list_tools=list_tools, on_call_tool=call_tool)
