"""Claude Code and Codex in a container, their models played by the simulated provider."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from fleet import runtimes
from fleet.control.agent_host_client import AgentLink
from fleet.journal.events import PermissionAsked, TurnEnded
from fleet.sandbox.egress_grant import EgressGrant
from fleet.sandbox.profiles import merged
from fleet.sim.provider import server as providers
from fleet.supervision import host_lifecycle
from tests.agents.test_real_agents import ASKING, LIMIT_S, PROGRAMS, allow
from tests.fleet.host.scripted_agent import until
from tests.fleet.sandbox import containers
from tests.fleet.sandbox.test_egress_grant import SECRET, Ways, account, assembly, forwarding, row

pytestmark = [
    pytest.mark.agents,
    pytest.mark.root,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the agents are not installed: make test-agents installs them"),
]


@pytest.mark.parametrize("name", ["claude", "codex"])
async def test_completes_a_turn_with_a_tool_call_through_its_one_way_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{PROGRAMS}:{os.environ['PATH']}")
    folder = tmp_path / "muster" / "run" / "out-coder0"
    folder.mkdir(parents=True)
    ways = Ways(EgressGrant(socket=folder / "sock"))
    known = {**merged({}), "box": containers.profile()}
    made = assembly(tmp_path, ways, account(provider=runtimes.RUNTIMES[name].providers[0]), profiles=known)
    agent = row(made, runtime=name, sandbox="box")
    async with (
        providers.running() as provider,
        forwarding(folder / "sock", provider.url, SECRET) as seen,
        contextlib.AsyncExitStack() as ending,
    ):
        ending.push_async_callback(host_lifecycle.kill, made.folder("coder0"))
        await made.start(agent, floor=0, grants=())
        async with await AgentLink.connect(str(made.socket("coder0"))) as link:
            await link.send("m1", ASKING[name])
            asked = await until(link, PermissionAsked, limit=LIMIT_S)
            assert "touch made" in asked.detail
            await allow(link, asked)
            ended = await until(link, TurnEnded, limit=LIMIT_S)
    assert ended.stop_reason == "end_turn"
    assert (made.planner.workspace_of("coder0") / "made").exists()
    assert seen
    assert not [headers for headers in seen if SECRET in str(headers)]
