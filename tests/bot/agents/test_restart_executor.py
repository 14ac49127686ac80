"""An agent that should run does so again, without a hand; one that cannot is given up, with the way out."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from bot.agents.restart_limiter import RestartLimiter
from bot.app import autostart
from bot.setup import offline_stop
from core import boot_id
from fleet.roster.drift import ENDED
from fleet.supervision import host_lifecycle, host_lock, offline_orders, restart_policy
from fleet.supervision.restart_policy import RestartLimits, RestartRecord
from tests.bot import fake_agents
from tests.bot.orchestrator import House, house
from tests.waiting import until


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made, made.open():
        yield made


async def kill_host(home: House, name: str = "coder0") -> None:
    """End an agent's host as the kernel would when memory runs out, as soon as it has one."""
    pid = await until(lambda: host_lock.holder(home.paths.agent_folder(name)))
    os.kill(pid, signal.SIGKILL)


async def test_one_whose_host_or_runtime_dies_goes_on_by_itself_in_its_conversation(home: House) -> None:
    thread = await home.launch("coder0")
    cut = home.say("[[say: half]] [[wait: gate]]", thread)
    await home.marks(cut, "👀")
    waiting = home.say("[[say: read later]]", thread)
    await home.marks(waiting, "📥")
    await kill_host(home)
    told = await home.heard(thread, "the agent host exited unexpectedly")
    assert "↻ It starts again by itself in 1 s." in told
    await home.marks(cut, "❌")
    await home.heard(thread, "Muster does not send it again by itself")
    await home.marks(waiting, "✅")
    assert "half" not in [text for text in home.chat.texts(thread) if text == "read later"]
    view = await home.orchestrator.agents.view_of("coder0")
    assert view.status is not None
    assert view.status.runtime_pid is not None
    os.kill(view.status.runtime_pid, signal.SIGKILL)
    # Beside the runtime's own last words.
    assert "2 times within 10 min; after 5" in await home.heard(thread, "starts again by itself in 2 s")
    await home.marks(home.say("[[say: here again]]", thread), "✅")
    assert "going on with its conversation" in " ".join(home.chat.texts(thread))


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_one_that_was_ended_without_muster_stays_down_until_somebody_starts_it(tmp_path: Path, way: str) -> None:
    roster = "preset: minimal\nagents: [{name: coder0, runtime: sim, sandbox: none, persistent: true}]\n"
    async with house(tmp_path, roster=roster) as home:
        async with home.open():
            await home.launch("coder0")
        end = offline_stop.kill if way == "kill" else partial(offline_stop.stop, now=False)
        await asyncio.to_thread(end, home.paths, "coder0")
        async with home.open(bring_up=True) as orchestrator:
            await home.chat.until(lambda: orchestrator.agents.is_known("coder0"), limit=30)
            await home.becomes(*ENDED)
            await autostart.bring_up(orchestrator.services, orchestrator.executor, stagger_s=0)
            row = await home.row()
            assert (row.state in ENDED, row.revival) == (True, None), "no other try is planned"
            await home.ask("!restart coder0")
            await home.marks(home.say("[[say: here again]]", await home.thread("coder0")), "✅")
            assert not offline_orders.keeps_down(home.paths.agent_folder("coder0"))


def test_a_clock_that_was_put_back_keeps_a_fleet_that_comes_up_no_longer_apart() -> None:
    restart_limiter = RestartLimiter(spacing=1.0)
    assert [restart_limiter.slot(at) for at in (86_400.0, 86_400.5)] == [86_400.0, 86_401.0]
    assert [restart_limiter.slot(at) for at in (10.5, 10.5, 90_000.0)] == [12.0, 13.0, 90_000.0]


ROSTER = """\
agents:
  - {{name: coder0, runtime: custom, sandbox: none, command: [{program}]}}
"""


def program(folder: Path, text: str) -> Path:
    path = folder / "runtime.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.slow
async def test_one_that_falls_again_and_again_is_given_up_however_often_muster_is_started_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = program(tmp_path, "echo the disk is on fire >&2; exit 3")
    async with house(tmp_path, roster=ROSTER.format(program=broken)) as home:
        async with home.open():
            await home.ask("!launch coder0")
            thread = await home.thread("coder0")
            await home.heard(thread, "2 times within 10 min; after 5 it stays down")
            assert "tries again in" in await home.ask("!ps")
            home.say("hello", thread)
            await home.heard(thread, "starts again by itself, and reads this then")
        monkeypatch.setattr(restart_policy, "LIMITS", RestartLimits(first=0.01))
        async with home.open():
            # Started so that nobody is brought up: it stays down, and nothing is forgotten.
            await home.chat.until(lambda: home.orchestrator and home.orchestrator.agents.is_known("coder0"), limit=30)
            assert "🔴 failed" in await home.ask("!ps")
            assert len(RestartRecord.from_json((await home.row()).revival).falls) == 2
        async with home.open(bring_up=True) as orchestrator:
            given_up = await home.heard(thread, "🛑")
            assert "fell 5 times within 10 min" in given_up
            assert "the disk is on fire" in given_up
            assert "`!restart coder0` starts it" in given_up
            row = await home.row()
            assert (row.state, RestartRecord.from_json(row.revival).ended) == ("failed", "too often")
            # The fleet's start is no new chance so soon.
            await autostart.bring_up(orchestrator.services, orchestrator.executor, stagger_s=0)
            assert (await home.row()).launch_id == row.launch_id
            await home.ask("!restart coder0")
            assert len(RestartRecord.from_json((await home.row()).revival).falls) < 5


async def test_what_only_a_person_can_mend_is_said_once_and_not_tried(tmp_path: Path) -> None:
    async with house(tmp_path, roster=ROSTER.format(program=program(tmp_path, "sleep 60"))) as home, home.open():
        await home.ask("!launch coder0")
        thread = await home.thread("coder0")
        await kill_host(home)
        (tmp_path / "runtime.sh").unlink()
        told = await home.heard(thread, "🛑")
        assert "`!restart coder0` starts it" in told
        row = await home.row()
        assert RestartRecord.from_json(row.revival).try_at is None
        assert "failed" in await home.ask("!ps")


@pytest.mark.slow
async def test_after_a_start_of_the_machine_all_come_up_one_after_the_other_and_nobody_fell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["coder0", "coder1"]
    async with house(tmp_path) as home:
        async with home.open():
            for name in names:
                await home.launch(name)
        for name in names:
            await host_lifecycle.kill(home.paths.agent_folder(name))
        monkeypatch.setattr(boot_id, "boot_id", lambda: "another")
        async with home.open(bring_up=True):
            for name in names:
                thread = await home.thread(name)
                assert "↻ It comes up again by itself." in await home.heard(thread, "ended when the machine restarted")
                await home.heard(thread, "going on with its conversation")
                assert RestartRecord.from_json((await home.row(name)).revival).falls == ()
            began = sorted([(await home.row(name)).started_at or 0.0 for name in names])
            assert began[1] - began[0] > 0


async def test_a_crash_is_one_message_that_says_what_follows(tmp_path: Path) -> None:
    roster = fake_agents.roster(tmp_path, "imp")
    settings = "watchdog: {every: 0.1, settling: 30s}\n"
    async with house(tmp_path, roster=roster, settings=settings) as home, home.open():
        thread = await fake_agents.launch(home, "imp")
        home.say(fake_agents.steps({"exit": 3, "stderr": "the disk is on fire"}), thread)
        told = await home.heard(thread, "It starts again by itself in 1 s.")
        assert told.startswith("✖ ")
        assert "the disk is on fire" in told
        await home.heard(thread, "Muster does not send it again by itself")
        await home.chat.until(lambda: len([t for t in home.chat.texts(thread) if t.startswith("▶")]) == 2, limit=30)
        told_of = [text for text in home.chat.texts(thread) if "starts again" in text or text.startswith(("✖", "🔴"))]
        assert told_of == [told]


async def test_what_a_command_in_the_thread_announced_is_not_announced_there_again(tmp_path: Path) -> None:
    async with house(tmp_path, roster=fake_agents.roster(tmp_path, "imp")) as home, home.open():
        thread = await fake_agents.launch(home, "imp")
        event = home.say(fake_agents.steps({"say": "at work"}, {"wait": True}), thread)
        await home.marks(event, "👀")
        assert "is cancelled" in await home.ask("!cancel imp", conversation=thread)
        await home.marks(event, "⏹️")
        assert "is frozen now" in await home.ask("!freeze imp", conversation=thread)
        await home.becomes("frozen", name="imp")
        await home.orchestrator.delivery.idle()
        assert not [text for text in home.chat.texts(thread) if text.startswith(("⏹", "❄️"))]
