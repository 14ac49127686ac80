"""How many agents are at what, counted when something happened and told to whoever watches."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot.messaging.fleet_port import AgentView
from bot.monitoring import agent_counts
from bot.monitoring.agent_counts import Changes, counted
from connectors.contract.agent_count_feed import AgentCounts
from database.queries.chat.questions import Question
from fleet.supervision.liveness import Liveness
from tests.bot.orchestrator import house


def view(state: str, *, name: str = "coder0", elsewhere: bool = False) -> AgentView:
    row: Any = SimpleNamespace(name=name)
    verdict = Liveness(state=state, evidence="none", evidence_age_s=None)
    return AgentView(row=row, liveness=verdict, status=None, activity=None, elsewhere=elsewhere)


def test_each_is_counted_as_what_a_person_would_call_it() -> None:
    states = ["working", "starting", "waiting", "failed", "failed", "unknown", "idle", "frozen", "stopped"]
    views = [*map(view, states), view("failed", elsewhere=True)]
    counts = counted(views)
    assert counts == AgentCounts(working=2, waiting=1, failed=2, unknown=1)
    assert str(counts) == "2 working, 1 waiting, 2 failed, 1 unknown"
    assert str(counted([])) == "0 working, 0 waiting, 0 failed"


def test_questions_wait_too_and_an_agent_that_waits_counts_once() -> None:
    def question(agent: str) -> Question:
        return Question(id=f"q{agent}", kind="task", agent=agent, task="t1", outbox_key="q", choices=(),
                        state="pending", asked_at=0.0)  # fmt: skip

    views = [view("waiting", name="coder0"), view("idle", name="coder1")]
    assert counted(views, [question("coder0")]).waiting == 1
    assert counted(views, [question("coder0"), question("coder1"), question("")]).waiting == 3


def test_heartbeats_and_words_alone_have_nobody_counted_again() -> None:
    changes = Changes()
    beat = {"type": "status", "agent": "coder0", "state": "idle"}
    assert [changes.has(beat), changes.has(beat), changes.has({**beat, "agent": "coder1"})] == [True, False, True]
    assert [changes.has({**beat, "state": "working"}), changes.has(beat)] == [True, True]
    assert not changes.has({"type": "entry", "entry": {"kind": "text", "text": "hello"}})
    assert changes.has({"type": "entry", "entry": {"kind": "turn_ended"}})
    assert changes.has({"type": "finding"})


async def test_what_becomes_of_an_agent_is_told_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_counts, "_AT_MOST_EVERY", 0.01)
    # Only what happens has it counted again.
    monkeypatch.setattr(agent_counts, "_AT_LEAST_EVERY", 600.0)
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
