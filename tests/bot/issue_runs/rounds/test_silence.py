"""An agent of which nothing is heard is taken for lost; one that waits for somebody is not."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bot.issue_runs.rounds.service import Rounds
from bot.issue_runs.rounds.silence import SilenceFacts, silent_for, tools_gone
from database.queries.agents.runs import AgentRun
from fleet.supervision import host_lifecycle
from fleet.supervision.restart_policy import RestartLimits
from tests.bot.issue_runs.forge_house import ForgeHouse, forge_house

NOON = 1_800_000_000.0
WORK = AgentRun(
    id="5e7a1c-1", source="forge", agent="coder17", role="coder", prompt="p", settings={}, asked_by="forge:ana",
    connector="memory", room="room", state="running", message="m", created_at=NOON, started_at=NOON,
)  # fmt: skip
FACTS = SilenceFacts(work=WORK, event_at=NOON + 10, heard_at=NOON + 5, is_waiting=False)


def test_time_counts_from_the_last_event_of_any_kind() -> None:
    assert silent_for(FACTS, NOON + 100) == 90
    assert silent_for(replace(FACTS, event_at=None), NOON + 100) == 95
    assert silent_for(replace(FACTS, heard_at=NOON + 60), NOON + 100) == 40
    assert silent_for(replace(FACTS, event_at=NOON + 500), NOON + 100) == 0


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, is_waiting=True),
        replace(FACTS, work=None),
        replace(FACTS, work=replace(WORK, state="queued")),
        replace(FACTS, work=replace(WORK, ending="stopped")),
        replace(FACTS, work=replace(WORK, state="done")),
    ],
)
def test_time_in_which_it_has_nothing_to_say_does_not_count(facts: SilenceFacts) -> None:
    assert silent_for(facts, NOON + 10_000) == 0


async def test_what_an_agent_committed_before_its_host_died_for_good_becomes_a_draft(world: ForgeHouse) -> None:
    async with world.home.open() as orchestrator:
        orchestrator.agents.context.limits = RestartLimits(falls=1)
        await world.queue("[[commit: shop.py def price(): return 2]] [[wait: never]]")
        await world.at_work()
        await world.committed()
        await host_lifecycle.kill(world.home.paths.agent_folder("coder17"))
        run = await world.settled()
        assert run.state == "frozen", run
        ((item, pull),) = world.pulls()
        assert pull.is_draft or item.title.startswith("WIP:")
        assert "agent died" in item.remarks[0].body
        assert "watchdog" in item.remarks[0].body
        work = await world.work()
        assert work is not None
        assert work.state == "failed"


async def test_what_an_agent_committed_before_its_runtime_died_becomes_a_draft(world: ForgeHouse) -> None:
    async with world.home.open() as orchestrator:
        orchestrator.agents.context.limits = RestartLimits(falls=1)
        await world.queue("[[commit: shop.py def price(): return 2]] [[wait: never]]")
        await world.at_work()
        await world.committed()
        status = (await orchestrator.agents.view_of("coder17")).status
        assert status is not None
        assert status.runtime_pid is not None
        os.kill(status.runtime_pid, signal.SIGKILL)
        assert (await world.settled()).state == "frozen"
        ((item, pull),) = world.pulls()
        assert pull.is_draft or item.title.startswith("WIP:")
        assert "runtime died" in item.remarks[0].body


async def test_an_agent_that_a_person_kills_is_stopped_and_not_silent(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue("[[commit: shop.py def price(): return 2]] [[wait: never]]")
        await world.at_work()
        await world.committed()
        asked = await world.home.reply(world.home.chat.post("!kill coder17"))
        world.home.chat.react(asked.event_id, "✅")
        assert (await world.settled()).state == "failed"
        work = await world.work()
        assert work is not None
        assert work.state == "stopped"
        assert world.pulls() == []


async def test_an_agent_whose_tools_are_gone_is_not_waited_for(tmp_path: Path) -> None:
    ahead = 0.0
    async with forge_house(tmp_path, clock=lambda: time.time() + ahead) as world, world.home.open():
        await world.queue("[[commit: shop.py def price(): return 2]] [[wait: never]]")
        await world.at_work()
        await world.committed()
        rounds = world.home.orchestrator.services.rounds
        assert isinstance(rounds, Rounds)
        await rounds.look()
        world.home.paths.tools_socket("coder17").unlink()
        ahead = 60.0
        await rounds.look()
        assert (await world.run()).state == "running"
        ahead = 120.0
        await rounds.look()
        assert (await world.settled()).state == "frozen"
        work = await world.work()
        assert work is not None
        assert "tools do not answer" in (work.detail or "")
        ((item, pull),) = world.pulls()
        assert pull.is_draft or item.title.startswith("WIP:")


def test_tools_are_gone_only_if_they_answered_before() -> None:
    assert not tools_gone(None, NOON)
    assert not tools_gone(NOON, NOON + 60)
    assert tools_gone(NOON, NOON + 90)


async def test_what_a_silent_agent_committed_becomes_a_draft(tmp_path: Path) -> None:
    ahead = 0.0
    async with forge_house(tmp_path, clock=lambda: time.time() + ahead) as world, world.home.open():
        await world.queue("[[commit: shop.py def price(): return 2]] [[wait: never]]")
        await world.at_work()
        await world.committed()
        world.wake()
        assert (await world.run()).state == "running"
        ahead = 3600.0
        world.wake()
        assert (await world.settled()).state == "frozen"
        ((item, pull),) = world.pulls()
        assert pull.is_draft or item.title.startswith("WIP:")
        work = await world.work()
        assert work is not None
        assert work.state == "timed_out"
