"""What a restart takes up of the roster, and what of a launch stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.agents.journal.follower import FOLLOW
from database.queries.agents import agents
from fleet.supervision import host_lifecycle, host_lock
from tests.bot.orchestrator import House, house


def entry(**words: Any) -> dict[str, Any]:
    return {"name": "coder0", "runtime": "sim", "sandbox": "none", **words}


def write_roster(home: House, *entries: dict[str, Any]) -> None:
    home.paths.roster_yaml.write_text(json.dumps({"version": 1, "agents": entries}))


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        write_roster(made, entry(model="small", env={"COLOR": "red"}))
        async with made.open():
            yield made


def started_with(home: House, name: str = "coder0") -> dict[str, Any]:
    """What the agent's host was told at its last start; nothing before the first."""
    path = home.paths.agent_folder(name) / host_lifecycle.SPEC
    told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return told


async def start(home: House, line: str, thread: str | None = None) -> str:
    """Give a command that starts the agent, and wait until it is ready. Returns the answer."""
    told = await home.ask(line)
    place = thread or await home.thread("coder0")
    launch = (await home.row()).launch_id
    await home.chat.until(lambda: started_with(home).get("launch_id") == launch, limit=30)
    await home.marks(home.say("[[say: here]]", place), "✅")
    return told


async def test_a_restart_takes_up_what_changed_in_the_roster_and_says_what(home: House, tmp_path: Path) -> None:
    await start(home, "!launch coder0")
    (tmp_path / "other").mkdir()
    write_roster(
        home, entry(model="large", env={"COLOR": "blue"}, workspace=str(tmp_path / "other"), prompt="Be brief.")
    )
    told = await start(home, "!restart coder0")
    assert "model `large` (it was `small`)" in told
    assert f"workspace `{tmp_path / 'other'}`" in told
    assert "env COLOR" in told
    assert "prompt (from its next conversation on)" in told
    spec = started_with(home)
    assert (spec["model"], spec["environment"]["COLOR"]) == ("large", "blue")
    assert spec["cwd"] == str(tmp_path / "other")
    assert (await home.row()).model == "large"
    assert await home.ask("!restart coder0") == "coder0 starts again."


@pytest.mark.slow
async def test_what_the_launch_said_itself_stays_and_the_rest_follows(home: House) -> None:
    await start(home, "!launch coder0 --model mine")
    write_roster(home, entry(model="large", role="research", env={"COLOR": "blue"}))
    told = await start(home, "!restart coder0")
    assert "role `research` (it was `coder`)" in told
    assert "model `mine` (the roster: `large`)" in told
    spec = started_with(home)
    assert (spec["model"], spec["role"], spec["environment"]["COLOR"]) == ("mine", "research", "blue")
    await home.ask("!stop coder0")
    await home.heard(await home.thread("coder0"), "Stopped: asked to stop")
    await start(home, "!launch coder0")
    assert started_with(home)["model"] == "large"


@pytest.mark.slow
async def test_what_a_launch_wrote_into_the_roster_is_the_rosters(home: House) -> None:
    home.paths.roster_yaml.unlink()
    await start(home, "!launch coder0 --runtime sim --sandbox none --model first")
    assert "first" in home.paths.roster_yaml.read_text()
    write_roster(home, entry(model="second", role="coder"))
    assert "model `second` (it was `first`)" in await start(home, "!restart coder0")
    assert started_with(home)["model"] == "second"


@pytest.mark.slow
async def test_an_agent_that_the_roster_lost_is_started_as_it_was(home: House) -> None:
    await start(home, "!launch coder0")
    write_roster(home)
    assert await start(home, "!restart coder0") == "coder0 starts again."
    assert started_with(home)["model"] == "small"


async def test_of_what_could_not_start_again_nothing_is_stopped(home: House) -> None:
    await start(home, "!launch coder0")
    before = await home.row()
    write_roster(home, entry(workspace="/not/there"))
    assert "no folder" in await home.ask("!restart coder0")
    write_roster(home, entry(runtime="codex"))
    assert "npm install" in await home.ask("!restart coder0")
    home.paths.roster_yaml.write_text("agents: [")
    assert "not YAML" in await home.ask("!restart coder0")
    assert (await home.row()).launch_id == before.launch_id
    await home.marks(home.say("[[say: still here]]", await home.thread("coder0")), "✅")


async def test_a_restart_that_takes_the_sandbox_away_says_what_that_means(home: House) -> None:
    write_roster(home, entry(sandbox="bubblewrap"))
    await home.ask("!launch coder0")
    write_roster(home, entry(sandbox="none"))
    told = await home.ask("!restart coder0")
    assert "sandbox `none` (it was `bubblewrap`)" in told
    assert "without a sandbox, as you" in told


@pytest.mark.slow
async def test_an_agent_launched_by_an_older_version_stays_what_it_is(home: House) -> None:
    await start(home, "!launch coder0")
    async with home.orchestrator.store.write(FOLLOW) as tx:
        await agents.change(tx, "coder0", basis=None)
    write_roster(home, entry(model="large"))
    assert await start(home, "!restart coder0") == "coder0 starts again."
    assert started_with(home)["model"] == "small"


@pytest.mark.slow
async def test_one_that_does_not_answer_is_said_not_to_and_starts_again_once_it_does(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.agents.service.ANSWER_WITHIN", 1.0)
    await start(home, "!launch coder0")
    write_roster(home, entry(model="large"))
    pid = host_lock.holder(home.paths.agent_folder("coder0"))
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        told = await home.ask("!restart coder0")
        assert "does not answer" in told
        assert "kill coder0`" in told
        assert "model `large`" in told
        assert "unknown" in await home.ask("!ps")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    await home.chat.until(lambda: started_with(home)["model"] == "large", limit=30)
    await home.marks(home.say("[[say: here again]]", await home.thread("coder0")), "✅")
