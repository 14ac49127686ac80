"""An agent is stopped from outside: by its agent host, and past one that does not answer."""

from __future__ import annotations

import asyncio
import os
import secrets
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from egress.limits import freeze_and_kill
from egress.limits.freeze_and_kill import Unkillable, enforce
from egress.settings import AgentRegistration
from fleet.control.agent_host_client import AgentLink
from fleet.journal.events import Closing
from fleet.supervision import process_sweep
from fleet.supervision.host_lock import holder
from tests.fleet.host.scripted_agent import Agent


def registration(agent: Agent, **changes: str) -> AgentRegistration:
    given = {"control_socket": agent.spec.socket, "marker": agent.spec.marker} | changes
    return AgentRegistration(agent=agent.spec.agent, launch_id=agent.spec.launch_id, **given)  # type: ignore[arg-type]


async def test_an_agent_host_that_answers_ends_its_runtime_and_says_why(short_home: Path) -> None:
    agent = Agent.make(short_home)
    async with agent.running():
        result = await enforce(registration(agent), "freeze", "The budget of coder0 was reached.")
        assert result == "Its agent host has ended it."
        assert agent.left_over() == []
        assert [event.reason for event in agent.events(Closing)] == ["freeze: The budget of coder0 was reached."]


async def test_an_agent_host_that_is_stopped_is_killed_with_all_that_it_started(short_home: Path) -> None:
    agent = Agent.make(short_home)
    async with agent.running() as link:
        assert agent.left_over()
        os.kill(link.hello.pid, signal.SIGSTOP)
        result = await enforce(registration(agent), "kill", "It went wild.", answer_s=0.3)
        assert result.startswith("Its agent host did not answer in time. ")
        assert result.endswith(" processes were killed.")
        assert agent.left_over() == []
        assert holder(agent.folder) is None


async def test_another_agents_host_is_not_stopped(short_home: Path) -> None:
    agent = Agent.make(short_home)
    async with agent.running():
        other = registration(agent, marker=secrets.token_hex(8)).model_copy(update={"agent": "coder1"})
        result = await enforce(other, "kill", "It went wild.")
        assert result == "What listens at its control socket is another agent's host. 0 processes were killed."
        async with await AgentLink.connect(agent.spec.socket) as again:
            assert (await again.status()).state != "stopping"


async def test_children_that_gave_their_marker_away_are_killed_with_who_bears_it() -> None:
    marker = secrets.token_hex(8)
    nested = (
        "import subprocess, time; child = subprocess.Popen(['sleep', '60'], env={}); print(child.pid, flush=True); "
        "time.sleep(60)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", nested, env={process_sweep.VARIABLE: marker}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    child = os.pidfd_open(int(await process.stdout.readline()))
    try:
        assert await asyncio.to_thread(freeze_and_kill.end_marked, marker) == 2
        assert await process.wait() == -signal.SIGKILL
        # Readable once it has ended (pidfd_open(2)).
        assert select.select([child], [], [], 10)[0]
    finally:
        os.close(child)


async def test_without_a_socket_and_a_marker_it_is_said_that_nothing_could_be_done() -> None:
    with pytest.raises(Unkillable, match="Look for them with ps"):
        await enforce(AgentRegistration(agent="coder0", launch_id="l1"), "kill", "It went wild.")


@pytest.mark.parametrize(
    "answer", [b"", b"not json\n", b'{"id":1,"error":{"code":"refused","message":"no"}}\n', b"[]\n"]
)
async def test_whatever_answers_in_its_place_the_agent_is_stopped(short_home: Path, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    marker = secrets.token_hex(8)
    process = await asyncio.create_subprocess_exec("sleep", "60", env={process_sweep.VARIABLE: marker})
    server = await asyncio.start_unix_server(serve, str(short_home / "s"))
    try:
        known = AgentRegistration(agent="coder0", launch_id="l1", control_socket=str(short_home / "s"), marker=marker)
        assert (await enforce(known, "kill", "It went wild.")).endswith("1 processes were killed.")
        assert await process.wait() == -signal.SIGKILL
    finally:
        server.close()
        await server.wait_closed()
