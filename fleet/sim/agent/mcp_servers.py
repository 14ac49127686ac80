"""The MCP servers that a client gave the built-in agent, and the tools that they offer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.sim.agent.session_store import AssistantMessage, Message, ToolOutput, ToolUse, UserMessage
from fleet.sim.agent.tools import OfferedTool

PREFIX = "mcp__"
#: Set to 1, every turn has the servers' tools.
ALWAYS = "SIM_AGENT_TOOLS"
_SPEAKS_OF_TOOLS = re.compile(r"mcp__|\[\[\s*(?:script|obey|tool\s*:\s*(?!Bash\b|Write\b))\b", re.IGNORECASE)
#: A server that says nothing for so long is not there, seconds.
READY_S = 30.0


@dataclass(slots=True)
class ServerTools:
    """The tools of the servers that are connected, each called ``mcp__SERVER__TOOL``."""

    offers: tuple[OfferedTool, ...] = ()
    _homes: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self._homes

    def add(self, server: str, session: Any, tool: Any) -> None:
        name = f"{PREFIX}{server}__{tool.name}"
        self.offers += (OfferedTool(name, tool.description or "", tool.input_schema),)
        self._homes[name] = session, tool.name

    async def use(self, call: ToolUse) -> ToolOutput:
        session, name = self._homes[call.name]
        result = await session.call_tool(name, call.input)
        text = "\n".join(block.text if block.type == "text" else f"[{block.type}]" for block in result.content)
        return ToolOutput(call.id, text, bool(result.is_error))


@contextlib.asynccontextmanager
async def connected(servers: Sequence[Any], messages: Sequence[Message]) -> AsyncIterator[ServerTools]:
    """The servers' tools for the length of a turn.

    Getting there takes a second, so no one is connected before the conversation speaks of such a tool, unless the
    environment says that they always are.

    Args:
        servers: as the client named them (Agent Client Protocol, ``mcpServers``); those on other transports than
            standard streams are left out.
        messages: the conversation.
    """
    found = ServerTools()
    always = os.environ.get(ALWAYS) == "1"
    if not servers or not (always or any(_SPEAKS_OF_TOOLS.search(_words(message)) for message in messages)):
        yield found
        return
    from mcp.client.session import ClientSession
    from mcp.client.stdio import StdioServerParameters, stdio_client

    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            if not hasattr(server, "command"):
                continue
            program = StdioServerParameters(
                command=server.command, args=server.args, env={each.name: each.value for each in server.env}
            )
            streams = await stack.enter_async_context(stdio_client(program))
            session = await stack.enter_async_context(ClientSession(*streams))
            async with asyncio.timeout(READY_S):
                await session.initialize()
                for tool in (await session.list_tools()).tools:
                    found.add(server.name, session, tool)
        yield found


def _words(message: Message) -> str:
    match message:
        case UserMessage(texts):
            return "\n".join(texts)
        case AssistantMessage(text, calls):
            return text + json.dumps([call.name for call in calls])
        case _:
            return ""
