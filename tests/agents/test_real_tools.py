"""Real agents and Muster's own tools: they start the bridge, inside the sandbox, and call what they were given."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from fleet import tools
from fleet.control.agent_host_client import AgentLink
from fleet.journal.events import PermissionAsked, RuntimeStarted, ToolAsked
from fleet.tools import Tool
from tests.agents.test_real_agents import PROGRAMS, Real, agent_of, until

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the agents are not installed: make test-agents installs them"),
]

REPORT = Tool(
    name="report",
    description="Post a line for people in your own chat thread.",
    input_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    queued=True,
)
#: How each calls the tool.
CALLING = {
    "claude": '[[tool: mcp__muster__report {"text": "It is done."}]]',
    "codex": '[[tool: mcp__muster__report {"text": "It is done."}]]',
    "opencode": '[[tool: muster_report {"text": "It is done."}]]',
}
#: What the simulated model says instead of calling it.
UNOFFERED = "but no such tool is offered"


async def prepare(real: Real, door: Path) -> None:
    """Ready the agent as `fleet.launch.host_spec_builder` does, with the way to its tools."""
    prepared, way = await real.prepare()
    prepared = replace(prepared, readonly=(*prepared.readonly, *tools.readonly()))
    real.agent.spec = replace(
        real.agent.spec,
        command=real.boxed(prepared, way, doors=(door,)),
        tools_socket=str(door),
        tools=(REPORT.to_json(),),
        mcp_servers=(tools.server(door),),
    )


async def answer(link: AgentLink) -> ToolAsked:
    """Do what the orchestrator does with a call; permission is given where it is asked for."""

    async def allow() -> None:
        asked = await until(link, PermissionAsked)
        once = next(option["id"] for option in asked.options if option["kind"] == "allow_once")
        incarnation = link.hello.incarnation
        await link.answer(
            incarnation=incarnation, session=asked.session, request=asked.request, digest=asked.digest, option=once
        )

    allowing = asyncio.create_task(allow())
    try:
        call = await until(link, ToolAsked)
    finally:
        allowing.cancel()
    await link.answer_call(call.call, "It is in your thread.", ok=True)
    return call


@pytest.mark.parametrize("name", ["claude", "codex", "opencode"], indirect=True)
async def test_a_real_agent_calls_a_tool_of_musters_in_its_sandbox(name: str, tmp_path: Path) -> None:
    async with agent_of(name, "bubblewrap", tmp_path) as real:
        await prepare(real, tmp_path / "t")
        async with real.running() as link:
            await until(link, RuntimeStarted)
            answering = asyncio.create_task(answer(link))
            said = UNOFFERED
            for _ in range(20):
                # Claude Code does not wait for its servers: its model is not offered their tools until they are there.
                if UNOFFERED not in said:
                    break
                said = await real.turn(link, CALLING[name])
            call = await answering
            assert (call.tool, call.arguments) == ("report", {"text": "It is done."})
            assert "It is in your thread." in said
        asked = real.agent.events(PermissionAsked)
        # Codex has no way to be told which servers it need not ask about.
        assert bool(asked) == (name == "codex")
