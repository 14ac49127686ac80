"""Muster's own tools, from a client of the Model Context Protocol through the bridge to the journal and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from fleet import tools
from fleet.control.agent_host_client import AgentLink
from fleet.errors import AgentRefused
from fleet.host.mcp import pending_tool_calls
from fleet.journal.events import ToolAnswered, ToolAsked, TurnEnded
from fleet.tools import Tool
from tests.fleet.host.scripted_agent import LIMIT_S, Agent, until

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
REPORT = Tool(name="report", description="Say it.", input_schema=SCHEMA, queued=True)
LAUNCH = Tool(name="launch", description="Start one.", input_schema=SCHEMA)


def make(home: Path, **changes: Any) -> Agent:
    socket = home / "t"
    offered = (REPORT.to_json(), LAUNCH.to_json())
    return Agent.make(home, tools_socket=str(socket), tools=offered, mcp_servers=(tools.server(socket),), **changes)


@contextlib.asynccontextmanager
async def client(agent: Agent) -> AsyncIterator[ClientSession]:
    """What a runtime does with the server that it was given."""
    (given,) = agent.spec.mcp_servers
    program = StdioServerParameters(command=given["command"], args=list(given["args"]))
    async with asyncio.timeout(LIMIT_S), stdio_client(program) as streams, ClientSession(*streams) as session:
        await session.initialize()
        yield session


def text_of(result: Any) -> str:
    return "\n".join(block.text for block in result.content)


async def asked(link: AgentLink, name: str) -> ToolAsked:
    return await until(link, ToolAsked, lambda event: event.tool == name)


async def test_a_runtime_is_offered_the_tools_and_its_call_is_answered_from_outside(tmp_path: Path) -> None:
    agent = make(tmp_path)
    async with agent.running() as link, client(agent) as session:
        offered = (await session.list_tools()).tools
        assert [(tool.name, tool.input_schema) for tool in offered] == [("report", SCHEMA), ("launch", SCHEMA)]

        calling = asyncio.create_task(session.call_tool("launch", {"text": "coder1"}))
        call = await asked(link, "launch")
        assert (call.arguments, call.queued) == ({"text": "coder1"}, False)
        await link.begin_call(call.call)
        await link.answer_call(call.call, "coder1 starts.", ok=True)
        result = await calling
        assert (text_of(result), result.is_error) == ("coder1 starts.", False)
        await until(link, ToolAnswered, lambda event: (event.call, event.outcome) == (call.call, "done"))
    given = [item["mcp_servers"] for item in agent.record() if "new" in item]
    assert given == [[tools.server(tmp_path / "t")]]


@pytest.mark.slow
async def test_what_nobody_began_in_time_is_not_done_later(tmp_path: Path) -> None:
    agent = make(tmp_path, tool_wait_s=0.2)
    async with agent.running() as link, client(agent) as session:
        result = await session.call_tool("launch", {})
        assert (text_of(result), result.is_error) == (pending_tool_calls.AWAY_NOW, True)
        call = await asked(link, "launch")
        await until(link, ToolAnswered, lambda event: (event.call, event.outcome) == (call.call, "lapsed"))
        with pytest.raises(AgentRefused) as refusal:
            await link.begin_call(call.call)
        assert refusal.value.refusal == "too_late"


@pytest.mark.slow
async def test_a_report_is_promised_while_the_orchestrator_is_away(tmp_path: Path) -> None:
    agent = make(tmp_path, tool_wait_s=0.2)
    async with agent.running(), client(agent) as session:
        result = await session.call_tool("report", {"text": "done"})
        assert (text_of(result), result.is_error) == (pending_tool_calls.AWAY_QUEUED, False)
    assert [event.queued for event in agent.events(ToolAsked)] == [True]


@pytest.mark.slow
async def test_of_what_was_begun_and_not_answered_nothing_is_claimed(tmp_path: Path) -> None:
    agent = make(tmp_path, tool_answer_s=0.2)
    async with agent.running() as link, client(agent) as session:
        calling = asyncio.create_task(session.call_tool("launch", {}))
        await link.begin_call((await asked(link, "launch")).call)
        result = await calling
        assert (text_of(result), result.is_error) == (pending_tool_calls.BEGUN, True)
    assert [event.outcome for event in agent.events(ToolAnswered)] == ["unknown"]


@pytest.mark.slow
async def test_a_call_of_an_earlier_agent_host_cannot_be_begun(tmp_path: Path) -> None:
    agent = make(tmp_path)
    async with agent.running() as link, client(agent) as session:
        calling = asyncio.create_task(session.call_tool("launch", {}))
        earlier = await asked(link, "launch")
        calling.cancel()
    async with agent.running() as link, client(agent) as session:
        calling = asyncio.create_task(session.call_tool("launch", {}))
        await until(link, ToolAsked, lambda event: event.call != earlier.call)
        with pytest.raises(AgentRefused):
            await link.begin_call(earlier.call)
        calling.cancel()


@pytest.mark.slow
async def test_too_much_is_refused_without_a_word_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make(tmp_path, tool_wait_s=0.01)
    async with agent.running(), client(agent) as session:
        long = await session.call_tool("report", {"text": "x" * tools.ARGUMENTS_LIMIT})
        assert long.is_error
        assert "characters" in text_of(long)
        unknown = await session.call_tool("approve", {})
        assert unknown.is_error
        assert "report, launch" in text_of(unknown)
        results = [
            await session.call_tool("report", {"text": "x"}) for _ in range(pending_tool_calls.CALLS_A_MINUTE + 1)
        ]
        assert [result.is_error for result in results] == [*[False] * pending_tool_calls.CALLS_A_MINUTE, True]
    assert len(agent.events(ToolAsked)) == pending_tool_calls.CALLS_A_MINUTE


async def test_garbage_on_the_socket_ends_that_connection_and_nothing_else(tmp_path: Path) -> None:
    agent = make(tmp_path, tool_wait_s=0.01)
    async with agent.running():
        for garbage in (
            b"what?\n",
            b"[" * 200_000 + b"\n",
            b"x" * 2_000_000,
            json.dumps({"jsonrpc": "1.0"}).encode() + b"\n",
        ):
            reader, writer = await asyncio.open_unix_connection(agent.spec.tools_socket)
            writer.write(garbage)
            async with asyncio.timeout(LIMIT_S):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()
        async with client(agent) as session:
            assert not (await session.call_tool("report", {"text": "still here"})).is_error


@pytest.mark.usefixtures("real_hosts")
async def test_an_agent_that_uses_no_tool_does_not_pay_for_them(tmp_path: Path) -> None:
    agent = make(tmp_path)
    async with agent.running() as link:
        maps = Path(f"/proc/{link.hello.pid}/maps").read_text()
    assert "/pydantic_core/" in maps
    assert "/rpds/" not in maps


async def test_a_note_of_musters_is_read_before_the_message_in_a_block_of_its_own(tmp_path: Path) -> None:
    agent = make(tmp_path, instructions="Be kind.")
    async with agent.running() as link:
        for message in ("m1", "m2"):
            await link.send(message, f"say={message}", note=f"note of {message}")
            await until(link, TurnEnded, lambda event, message=message: event.message == message)  # type: ignore[misc]
    assert [item["prompt"] for item in agent.record() if "prompt" in item] == [
        ["Be kind.", "note of m1", "say=m1"],
        ["note of m2", "say=m2"],
    ]
