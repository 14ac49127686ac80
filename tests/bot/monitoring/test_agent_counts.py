"""How many agents are at what, counted when something happened and told to whoever watches."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot.messaging.fleet_port import AgentView
from bot.monitoring import agent_counts
from bot.monitoring.agent_counts import Changes, counted
from connectors.contract.agent_count_feed import AgentCounts
from fleet.supervision.liveness import Liveness
from tests.bot.orchestrator import house
from tests.bot.projects.fleet_with_project import WEB, ask, fleet


def view(state: str, *, elsewhere: bool = False) -> AgentView:
    row: Any = None
    verdict = Liveness(state=state, evidence="none", evidence_at=None)
    return AgentView(row=row, liveness=verdict, status=None, activity=None, elsewhere=elsewhere)


def test_each_is_counted_as_what_a_person_would_call_it() -> None:
    states = ["working", "starting", "waiting", "failed", "failed", "unknown", "idle", "frozen", "stopped"]
    views = [*map(view, states), view("failed", elsewhere=True)]
    counts = counted(views)
    assert counts == AgentCounts(working=2, waiting=1, failed=2, unknown=1)
    assert str(counts) == "2 working, 1 waiting, 2 failed, 1 unknown"
    assert str(counted([])) == "0 working, 0 waiting, 0 failed"


def test_a_question_waits_as_a_permission_request_does() -> None:
    def named(name: str, state: str) -> AgentView:
        return replace(view(state), row=SimpleNamespace(name=name))  # type: ignore[arg-type]

    views = [named("a", "working"), named("b", "waiting"), named("c", "failed"), named("d", "idle")]
    # Of two questions about one agent it waits once; what failed, failed; a task's question is about no agent.
    counts = counted(views, ["a", "a", "c", ""])
    assert counts == AgentCounts(working=0, waiting=3, failed=1, unknown=0)


def test_heartbeats_and_words_alone_have_nobody_counted_again() -> None:
    changes = Changes()
    beat = {"type": "status", "agent": "coder0", "state": "idle"}
    assert [changes.has(beat), changes.has(beat), changes.has({**beat, "agent": "coder1"})] == [True, False, True]
    assert [changes.has({**beat, "state": "working"}), changes.has(beat)] == [True, True]
    assert not changes.has({"type": "entry", "entry": {"kind": "text", "text": "hello"}})
    assert changes.has({"type": "entry", "entry": {"kind": "turn_ended"}})
    assert changes.has({"type": "finding"})


async def test_what_becomes_of_an_agent_is_told_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_counts, "AT_MOST_EVERY", 0.01)
    # Only what happens has it counted again.
    monkeypatch.setattr(agent_counts, "AT_LEAST_EVERY", 600.0)
    told: asyncio.Queue[AgentCounts] = asyncio.Queue()

    async def until(counts: AgentCounts) -> None:
        async with asyncio.timeout(30):
            while await told.get() != counts:
                pass

    async with house(tmp_path) as home, home.open() as orchestrator:
        with orchestrator.services.headcount.watched(told.put_nowait):
            await until(AgentCounts())
            thread = await home.launch("coder0")
            home.say("[[run: echo hello]]", thread)
            await until(AgentCounts(waiting=1))
            question = await home.heard(thread, "asks for permission")
            await home.ask(f"!approve {question.split('permission `')[1].split('`')[0]}")
            await until(AgentCounts())


async def test_a_question_is_told_when_it_is_asked_though_no_agent_does_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_counts, "AT_LEAST_EVERY", 600.0)
    told: asyncio.Queue[AgentCounts] = asyncio.Queue()

    async def until(waiting: int) -> None:
        async with asyncio.timeout(30):
            while (await told.get()).waiting != waiting:
                pass

    async with fleet(tmp_path) as (home, _), home.open() as orchestrator:
        _, thread = await ask(home, "[[say: hello]]")
        await home.heard(thread, "hello")
        with orchestrator.services.headcount.watched(told.put_nowait):
            await until(0)
            home.chat.post("!done", conversation=thread, parent=WEB)
            await until(1)
            question = (await home.heard(thread, "How does web-1 end")).partition("!answer ")[2].split()[0]
            await home.ask(f"!answer {question} keep", conversation=thread)
            await until(0)
