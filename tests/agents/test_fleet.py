"""A fleet of the real Claude Code and Codex and two built-in agents is killed whole, and comes back by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.sim.provider import server as provider
from tests.agents.test_real_agents import PROGRAMS
from tests.operator_client import body, thread_root
from tests.synapse import Synapse
from tests.system.matrix_installation import installation
from tests.system.operator_record import FINISHED, Books
from tests.system.test_fleet import CORE, all_are, begin, kill_everybody

pytestmark = [
    pytest.mark.agents,
    pytest.mark.synapse,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the agents are not installed: make test-agents installs them"),
]

REAL = {"coder0": "claude", "coder1": "codex"}
FLEET = (*CORE, *REAL)


async def test_real_agents_come_back_in_their_sessions_or_say_that_they_do_not(
    tmp_path: Path, synapse: Synapse
) -> None:
    async with provider.running() as models:
        accounts = {
            "sim": {"provider": "anthropic", "base_url": models.url, "credential": "env:SIM_KEY"},
            "anthropic": {"provider": "anthropic", "base_url": models.url, "credential": "env:SIM_KEY"},
            "openai": {"provider": "openai", "base_url": f"{models.url}/v1", "credential": "env:SIM_KEY"},
        }
        agents = {"runtime": "sim", "heartbeat": "1s"}
        async with installation(tmp_path, synapse, models, accounts=accounts, agents=agents) as home:
            path = f"{PROGRAMS}:{os.environ['PATH']}"
            await begin(home)
            books = Books(home, may_be_cut=True)
            await home.start(PATH=path)
            await home.joined()
            for name, runtime in REAL.items():
                await books.ask(f"!launch {name} --runtime {runtime}")
            threads = {name: await home.thread_of(name) for name in FLEET}
            for message in [await books.message(thread) for thread in threads.values()]:
                assert await books.done(message) == FINISHED
            before = await all_are(home, "idle", names=FLEET)
            kill_everybody(home)
            await home.ended()

            await home.start(PATH=path)
            for name, thread in threads.items():
                message = await books.message(thread)
                assert await books.done(message) == FINISHED, name
            after = await all_are(home, "idle", names=FLEET)
            for name, thread in threads.items():
                said_new = [
                    event
                    for event in home.ana.seen[home.room]
                    if thread_root(event) == thread and "in a new conversation" in body(event)
                ]
                same = after[name]["session_id"] == before[name]["session_id"]
                print(f"{name}: {'the same session' if same else 'a new session'}")
                assert len(said_new) == (1 if same else 2), name
            for name in FLEET:
                await books.ask(f"!stop {name}")
            await home.nobody_left()
            await books.settled()
