"""What operators are told when nobody looks: once, where it belongs, with the command that helps."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.agents.service import Agents
from bot.config.paths import Paths
from bot.messaging.fleet_port import AgentView
from core.crash_points import declare
from database.engine.store import Store
from database.queries.agents import agents
from fleet.supervision import host_lifecycle, host_lock
from fleet.supervision.health_findings import HealthThresholds, found_in
from fleet.supervision.liveness import Liveness
from scheduler import alert_policy
from tests import waiting
from tests.bot.orchestrator import ROOM, House, house

KEY = "sk-ant-api03-aQ7" + "xK9w" * 20
#: Heartbeats and sweeps as fast as a test wants them.
SETTINGS = """\
agents: {heartbeat: 200ms, freshness: 5s}
watchdog: {every: 200ms, settling: 1s, turn_silence: 2s}
""".replace("200ms", "0.2")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, settings=SETTINGS) as made, made.open():
        yield made


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is well counts as over at the next sweep."""
    monkeypatch.setattr(alert_policy, "CALM_S", 0.0)


async def runtime_of(home: House, name: str) -> int:
    """The process id of an agent's runtime, once its host told it."""
    async with asyncio.timeout(30):
        while True:
            view = await home.orchestrator.agents.view_of(name)
            if view.status is not None and view.status.runtime_pid is not None:
                return view.status.runtime_pid
            await asyncio.sleep(0.02)


async def state_of(home: House, name: str) -> str:
    return (await home.orchestrator.agents.view_of(name)).liveness.state


async def becomes(home: House, name: str, state: str) -> None:
    await waiting.until(lambda: state_of(home, name), lambda found: found == state)


@contextlib.asynccontextmanager
async def opened(paths: Paths) -> AsyncIterator[Store]:
    """The register of an orchestrator that does not run."""
    store = await Store.open(f"sqlite:///{paths.state}/register.db")
    try:
        yield store
    finally:
        await store.close()


def said(home: House, words: str) -> list[str]:
    """Every message that holds `words`, wherever it stands."""
    return [said.text for said in home.chat.said if words in said.text]


async def sweeps(home: House, count: int) -> None:
    """Wait until the watchdog has looked so often."""
    jobs = home.orchestrator.jobs
    seen = set[float | None]()
    async with asyncio.timeout(30):
        while len(seen) <= count:
            seen.add(next(record.last_run for record in jobs.records() if record.name == "watchdog"))
            await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
async def test_a_hung_runtime_is_unknown_and_told_and_so_is_its_return(home: House) -> None:
    thread = await home.launch("coder0")
    pid = await runtime_of(home, "coder0")
    os.kill(pid, signal.SIGSTOP)
    try:
        await becomes(home, "coder0", "unknown")
        told = await home.heard(thread, "does not answer")
        assert "`!restart coder0`" in told
        assert "has not answered" in told
        assert "unknown" in await home.ask("!ps")
    finally:
        os.kill(pid, signal.SIGCONT)
    await becomes(home, "coder0", "idle")
    await home.heard(thread, "answers again")
    await home.marks(home.say("[[say: as if nothing had been]]", thread), "✅")
    assert len(said(home, "does not answer")) == 1


async def test_a_hung_agent_host_is_unknown_also_to_an_orchestrator_that_comes_later(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home:
        async with home.open():
            thread = await home.launch("coder0")
        pid = host_lock.holder(home.paths.agent_folder("coder0"))
        assert pid
        os.kill(pid, signal.SIGSTOP)
        try:
            async with home.open():
                await home.heard(thread, "does not answer")
                assert await state_of(home, "coder0") == "unknown"
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
async def test_one_that_was_left_down_is_told_once_with_the_way_out_and_not_again_after_a_restart(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, settings=SETTINGS) as home:
        async with home.open():
            thread = await home.launch("coder0")
        await host_lifecycle.kill(home.paths.agent_folder("coder0"))
        async with home.open():
            told = await home.heard(thread, "is down. `!restart")
            assert "`!restart coder0`" in told
        async with home.open():
            await becomes(home, "coder0", "failed")
            await sweeps(home, 3)
            assert len(said(home, "is down. `!restart")) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
async def test_what_befalls_many_at_once_is_one_event_in_the_main_room(tmp_path: Path) -> None:
    names = [f"coder{number}" for number in range(3)]
    async with house(tmp_path, settings=SETTINGS) as home:
        async with home.open():
            threads = [await home.launch(name) for name in names]
        for name in names:
            await host_lifecycle.kill(home.paths.agent_folder(name))
        async with home.open(bring_up=True):
            told = await home.heard(ROOM, "3 agents** are down")
            assert all(name in told for name in names)
            assert "the agent host exited unexpectedly" in told
            assert "Muster tries each again by itself" in told
            for thread in threads:
                await home.heard(thread, "starts again by itself")
                await home.heard(thread, "going on with its conversation")
            await home.heard(ROOM, "None of those agents is down any more")
            for thread in threads:
                home.say("[[error: 400 x9 the model is away]]", thread)
            told = await home.heard(ROOM, "The turns of **3 agents** fail")
            assert "the model is away" in told
            assert len(said(home, "agents** are down")) == 1
            assert len(said(home, "is down. `!restart")) == 0


@pytest.mark.slow
async def test_a_turn_from_which_nothing_comes_is_told_and_again_later(home: House) -> None:
    thread = await home.launch("coder0")
    home.say("[[say: begun]] [[wait: gate]]", thread)
    told = await home.heard(thread, "Nothing came from this turn")
    assert "`!cancel coder0`" in told
    await home.chat.until(lambda: len(said(home, "Nothing came from this turn")) == 2, limit=30)
    home.models.release("gate")
    await becomes(home, "coder0", "idle")


@pytest.mark.slow
async def test_a_turn_that_may_not_hang_for_ever_is_cancelled(tmp_path: Path) -> None:
    settings = SETTINGS.replace("turn_silence: 2s", "turn_silence: 1s, cancel_after: 2s")
    async with house(tmp_path, settings=settings) as home, home.open():
        thread = await home.launch("coder0")
        hanging = home.say("[[say: begun]] [[hang]]", thread)
        await home.heard(thread, "Muster cancels it")
        await home.marks(hanging, "⏹️")
        await home.heard(thread, "The turn was cancelled")
        assert len(said(home, "Muster cancels it")) == 1


@pytest.mark.slow
async def test_a_request_about_to_expire_is_brought_to_mind_where_it_was_asked(tmp_path: Path) -> None:
    settings = SETTINGS + "approvals: {timeout: 9s}\n"
    async with house(tmp_path, settings=settings) as home, home.open():
        thread = await home.launch("coder0")
        home.say("[[run: echo x]]", thread)
        question = await home.heard(thread, "asks for permission")
        told = await home.heard(thread, "denied unless somebody answers")
        approval = question.split("permission `")[1].split("`")[0]
        assert f"`!approve {approval}`" in told
        await home.ask(f"!approve {approval}", conversation=thread)
        await becomes(home, "coder0", "idle")
        assert len(said(home, "denied unless somebody answers")) == 1


async def test_drift_between_roster_and_reality_is_told_both_ways(home: House) -> None:
    await home.launch("coder0")
    home.paths.roster_yaml.write_text("agents: [{name: board0, runtime: sim}]\n")
    assert "`!stop coder0`" in await home.heard(ROOM, "not in the roster: coder0")
    assert "`!launch board0`" in await home.heard(ROOM, "not running: board0")
    shown = await home.ask("!ps --all")
    assert "board0" in shown
    assert "coder0" in shown
    await sweeps(home, 3)
    assert len(said(home, "`!stop coder0` stops one")) == 1


@pytest.mark.slow
async def test_a_changed_roster_is_told_shown_and_applied(home: House) -> None:
    await home.launch("coder0")
    with home.paths.roster_yaml.open("a") as file:
        file.write("    model: large\n")
    assert "`!roster apply`" in await home.heard(ROOM, "has changed for coder0")
    assert "`!roster apply`" in await home.ask("!ps --all")
    await home.ask("!roster apply")
    await home.chat.until(
        lambda: "large" in (home.paths.agent_folder("coder0") / host_lifecycle.SPEC).read_text(), limit=30
    )
    home.paths.roster_yaml.write_text("agents: [\n")
    assert "roster.yaml:2:1" in await home.heard(ROOM, "The roster has a mistake")


@pytest.mark.slow
async def test_a_host_that_the_register_does_not_know_is_told_and_can_be_taken_over(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home:
        async with home.open():
            await home.launch("coder0")
            await home.launch("coder1")
        # As if the register had been restored from before the agent was launched.
        async with (
            opened(home.paths) as store,
            store.write(declare("test.forget")) as tx,
        ):
            await agents.remove(tx, "coder0")
        async with home.open():
            assert "`!launch coder0`" in await home.heard(ROOM, "unknown to the register: coder0")
            assert "coder0" in await home.ask("!ps --all")


@pytest.mark.slow
async def test_a_roster_with_a_mistake_in_it_makes_nobody_missing(home: House) -> None:
    await home.launch("coder0")
    home.paths.roster_yaml.write_text("agents: [{nam: coder0}]\n")
    await sweeps(home, 8)
    assert said(home, "roster:") == []


@pytest.mark.slow
async def test_a_key_in_the_reason_of_a_failure_is_not_told_in_part(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.launch("coder0")
    lookout, view = home.orchestrator.lookout, Agents.view

    async def failed(self: Agents) -> list[AgentView]:
        verdict = Liveness(state="failed", evidence="journal", evidence_at=1.0, detail=f"no luck with {KEY}")
        return [dataclasses.replace(each, liveness=verdict) for each in await view(self)]

    monkeypatch.setattr(Agents, "view", failed)
    (cause,) = {finding.cause for finding in found_in(await lookout.look(), HealthThresholds()).findings}
    assert cause.startswith("no luck with")
    assert "aQ" not in cause


@pytest.mark.slow
async def test_a_healthy_fleet_is_told_nothing_of(home: House) -> None:
    thread = await home.launch("coder0")
    await home.marks(home.say("[[say: hello]]", thread), "✅")
    await home.ask("!stop coder0")
    await home.heard(thread, "Stopped")
    before = len(home.chat.said)
    await sweeps(home, 8)
    assert len(home.chat.said) == before
