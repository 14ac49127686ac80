"""A large fleet begins bit by bit, and what its agents left behind is ended all the same."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.agents.context import BEGIN_AT_ONCE
from bot.agents.journal.follower import JournalFollower
from core.crash_points import declare
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow, PositionRow
from fleet.supervision import host_lifecycle, process_sweep
from tests import waiting
from tests.bot.orchestrator import House, house

FILL = declare("test.fill")


async def stopped(home: House, *names: str) -> None:
    """Launch an agent and stop it; the others are written down like it."""
    thread = await home.launch(names[0])
    await home.ask(f"!stop {names[0]}")
    await home.heard(thread, "Stopped")
    await known_as(home, "stopped", names[0])
    async with home.orchestrator.store.write(FILL) as tx:
        row = await agents.get(tx, names[0])
        assert row is not None
        for name in names[1:]:
            values = {field: getattr(row, field) for field in row.__dataclass_fields__}
            await agents.add(tx, agents.AgentRow(**values | {"name": name, "launch_id": f"launch-{name}"}))


async def known_as(home: House, state: str, *names: str) -> None:
    """Wait until it was looked at all of these."""
    async with asyncio.timeout(60):
        while {(await home.orchestrator.agents.view_of(name)).liveness.state for name in names} != {state}:
            await asyncio.sleep(0.02)


async def test_not_all_agents_are_taken_up_at_once_and_commands_go_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"coder{number}" for number in range(3 * BEGIN_AT_ONCE)]
    held = asyncio.Event()
    beginning: set[str] = set()
    take_up = JournalFollower.take_up

    async def slow(self: JournalFollower, row: AgentRow | None, position: PositionRow) -> None:
        beginning.add(self.name)
        await held.wait()
        await take_up(self, row, position)

    async with house(tmp_path) as home:
        async with home.open():
            await stopped(home, *names)
        monkeypatch.setattr(JournalFollower, "take_up", slow)
        async with home.open():
            await waiting.until(lambda: len(beginning) >= BEGIN_AT_ONCE)
            assert "admin" in await home.ask("!whoami")
            assert len(beginning) == BEGIN_AT_ONCE
            held.set()
            await known_as(home, "stopped", *names)
            assert beginning == set(names)


async def test_what_a_stopped_agent_left_behind_is_ended_when_muster_starts(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        async with home.open():
            await stopped(home, "coder0")
        (marker,) = host_lifecycle.markers_of(home.paths.agent_folder("coder0"))
        left = subprocess.Popen(
            [sys.executable, "-c", "input()"], env={process_sweep.VARIABLE: marker}, stdin=subprocess.PIPE
        )
        try:
            async with home.open():
                assert await asyncio.to_thread(left.wait, 30) < 0
        finally:
            left.kill()
            left.communicate()


def test_the_markers_of_all_processes_are_seen() -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); input()"],
        env={process_sweep.VARIABLE: f"test-{os.getpid()}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert started.stdout is not None
        started.stdout.readline()
        assert f"test-{os.getpid()}" in process_sweep.markers()
    finally:
        started.communicate(b"\n")
    assert f"test-{os.getpid()}" not in process_sweep.markers()
