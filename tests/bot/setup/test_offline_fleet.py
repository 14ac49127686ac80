"""What is known of agents without the orchestrator."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.agents import status_view
from bot.commands import sections
from bot.config.paths import Paths
from bot.egress_client import emergency_stop
from bot.interfaces.cli.main import run
from bot.interfaces.cli.output import NOT_RUNNING
from bot.read_models.fleet import FleetAgent
from bot.setup import offline_fleet, offline_stop
from fleet.supervision import host_lifecycle, host_lock
from tests.bot.setup.test_daemon import spawned


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path / "muster")})
    yield paths
    offline_stop.stop_all(paths)


async def the_only(paths: Paths) -> FleetAgent:
    (agent,) = (await asyncio.to_thread(offline_fleet.load, paths)).agents
    return agent


async def idle(paths: Paths) -> FleetAgent:
    async with asyncio.timeout(30):
        while (agent := await the_only(paths)).state != "idle":
            assert agent.state in {"starting", "unknown"}
    return agent


async def test_an_agent_that_runs_says_so_itself(paths: Paths) -> None:
    await spawned(paths, "a")
    agent = await idle(paths)
    assert (agent.name, agent.seen.source, agent.wanted) == ("a", "protocol", "running")
    await asyncio.to_thread(offline_stop.stop, paths, "a", now=True)
    agent = await the_only(paths)
    assert (agent.state, agent.seen.source, agent.wanted) == ("stopped", "journal", "stopped")


async def test_what_does_not_answer_or_died_is_unknown(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = await spawned(paths, "a")
    await idle(paths)
    monkeypatch.setattr(offline_fleet, "ANSWER_S", 0.2)
    pid = host_lock.holder(launched.folder) or 0
    os.kill(pid, signal.SIGSTOP)
    assert "does not answer" in str((await the_only(paths)).detail)
    await host_lifecycle.kill(launched.folder)
    agent = await the_only(paths)
    assert (agent.state, agent.seen.source) == ("unknown", "journal"), "its journal has no end"


async def test_files_that_cannot_be_read_hide_no_agent(paths: Paths) -> None:
    await spawned(paths, "a")
    await idle(paths)
    (paths.agent_folder("a") / "stay-down").mkdir()
    assert (await the_only(paths)).state == "idle"
    (paths.agent_folder("a") / "stay-down").rmdir()


async def test_the_emergency_stop_is_shown_with_who_pulled_it(paths: Paths) -> None:
    await spawned(paths, "a")
    emergency_stop.pull(paths.state, by="terminal:ana", at="2026-11-25T09:00:00Z")
    fleet = await asyncio.to_thread(offline_fleet.load, paths)
    assert fleet.estop is not None
    assert fleet.estop.by == "terminal:ana"


async def test_a_shell_shows_the_fleet_to_people_and_to_programs(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_HOME", str(paths.home))
    table = sections.load()
    assert await asyncio.to_thread(run, table, ["ps", "--json"]) == NOT_RUNNING
    assert json.loads(capsys.readouterr().out)["code"] == "muster.not_running", "there are no agents"
    await spawned(paths, "a")
    await idle(paths)
    assert await asyncio.to_thread(run, table, ["ps", "--json"]) == NOT_RUNNING
    said = capsys.readouterr()
    (row,) = json.loads(said.out)
    assert (row["name"], row["state"], row["evidence"], row["tokens_today"]) == ("a", "idle", "protocol", None)
    assert "not running" in said.err
    assert await asyncio.to_thread(run, table, ["ps"]) == NOT_RUNNING
    assert "What waits in Muster is unknown." in capsys.readouterr().out


def test_an_installation_that_was_never_started_has_no_agents(paths: Paths) -> None:
    fleet = offline_fleet.load(paths)
    assert fleet.agents == ()
    assert "No agent runs" in status_view.fleet_text(fleet, 0.0)
