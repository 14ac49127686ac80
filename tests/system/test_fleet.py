"""A fleet from a preset is killed whole in the middle of its work, and comes back by itself as it was."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fleet.sim.provider.server import Provider
from fleet.supervision import host_lock
from tests.synapse import Synapse
from tests.system.installation import LIMIT
from tests.system.matrix_installation import Installation, installation
from tests.system.operator_record import FINISHED, STRANDED, Books
from tests.system.scenarios import Stage

pytestmark = [pytest.mark.synapse, pytest.mark.slow]

CORE = ("lead", "polisher")
WORKERS = ("coder0", "coder1", "reviewer0", "security0")
#: What an agent's shell leaves behind in a session of its own.
ASTRAY = "sleep 86397"


async def begin(home: Installation) -> None:
    """Write the roster as a person does; what it is to be configured with is known."""
    settings = home.paths.muster_yaml.read_text()
    home.paths.muster_yaml.unlink()
    status, said = await home.shell("init", "--preset", "coding", "--runtime", "sim", "--yes")
    assert status == 0, said
    home.paths.muster_yaml.write_text(settings)


async def members(home: Installation) -> dict[str, dict[str, Any]]:
    """What `muster ps --json` says of each agent."""
    answer = await home.gateway("POST", "/v1/commands/ps", {})
    return {agent["name"]: agent for agent in answer["data"]}


async def all_are(home: Installation, *states: str, names: Sequence[str] = CORE + WORKERS) -> dict[str, dict[str, Any]]:
    """What is said of the fleet once everybody is in one of these states."""
    async with asyncio.timeout(LIMIT):
        while True:
            found = await members(home)
            if found.keys() == set(names) and all(each["state"] in states for each in found.values()):
                return found
            await asyncio.sleep(0.1)


def kill_everybody(home: Installation) -> None:
    """kill -9 for the orchestrator and all agent hosts; what their agents started stays."""
    assert home.process is not None
    hosts = [host_lock.holder(home.paths.agent_folder(name)) for name in home.agents()]
    assert all(hosts)
    for pid in (home.process.pid, *filter(None, hosts)):
        os.kill(pid, signal.SIGKILL)


async def test_a_fleet_that_was_killed_whole_comes_back_as_it_was(
    tmp_path: Path, synapse: Synapse, models: Provider
) -> None:
    async with installation(tmp_path, synapse, models) as home:
        await begin(home)
        books = Books(home, may_be_cut=True)
        stage = Stage(home, books)
        await home.start()
        await home.joined()
        for name in WORKERS:
            await books.ask(f"!launch {name}")
        threads = {name: await home.thread_of(name) for name in CORE + WORKERS}
        for message in [await books.message(thread) for thread in threads.values()]:
            assert await books.done(message) == FINISHED
        before = await all_are(home, "idle")

        leaving = await books.message(threads["coder1"], f"[[run: setsid -f {ASTRAY} >astray 2>&1]]")
        assert await stage.approved(leaving, ASTRAY) == FINISHED
        assert any(ASTRAY in command for _, command in home.processes())
        cut = await books.message(threads["coder0"], "[[say: begun]][[hang]]")
        await home.marked(cut.event_id, "👀")
        queued = await books.message(threads["coder0"])
        await home.marked(queued.event_id, "📥")
        kill_everybody(home)
        await home.ended()

        await home.start()
        assert await books.done(cut) in STRANDED
        assert await books.done(queued) == FINISHED
        after = await all_are(home, "idle")
        assert {name: each["session_id"] for name, each in after.items()} == {
            name: each["session_id"] for name, each in before.items()
        }
        assert not any(ASTRAY in command for _, command in home.processes())
        for message in [await books.message(thread) for thread in threads.values()]:
            assert await books.done(message) == FINISHED
        for name in threads:
            await books.ask(f"!stop {name}")
        await home.nobody_left()
        await books.balance()
