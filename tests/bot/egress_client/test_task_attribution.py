"""What an agent says that it works at counts for a task only where the register gave it that task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import event

from bot.egress_client.ledger_import import LedgerImport
from bot.egress_client.task_attribution import believed
from core.crash_points import declare
from database.engine.store import Store
from database.queries import tasks
from database.queries.agents import agent_messages
from database.queries.agents.agent_messages import AgentMessage
from database.queries.spending import usage_ledger, usage_queries
from database.queries.tasks import Task
from fleet.control.task_attempt_ids import message_of
from tests.bot.egress_client.test_ledger_import import NOW, Ledger, entry

STEP = declare("tests.claims")
MINE, OTHERS = "0000000a", "0000000b"


def task(task_id: str, assigned: str | None, attempt: int) -> Task:
    return Task(
        id=task_id, kind="task", text="x", lane="l", operator="ana", state="running", assigned=assigned,
        attempt=attempt, created_at=NOW, updated_at=NOW,
    )  # fmt: skip


def carrying(task_id: str, attempt: int, agent: str) -> AgentMessage:
    return AgentMessage(
        id=message_of(task_id, attempt), agent=agent, mode="queue", text="x", attachments=(), sender="ana",
        connector=None, conversation=None, event_id=None, answer_in=None, state="failed", turn=None, detail=None,
        created_at=NOW, updated_at=NOW, give_up_at=NOW,
    )  # fmt: skip


async def _untold(*given: Any) -> None:
    del given


async def test_no_agent_has_another_ones_task_pay_for_its_requests(store: Store) -> None:
    async with store.write(STEP) as tx:
        # Tried by coder1, and then by coder0, which has it.
        await tasks.add(tx, task(MINE, "coder0", 2))
        await agent_messages.add(tx, carrying(MINE, 1, "coder1"))
        await agent_messages.add(tx, carrying(MINE, 2, "coder0"))
        await tasks.add(tx, task(OTHERS, "coder1", 1))
        await agent_messages.add(tx, carrying(OTHERS, 1, "coder1"))
    claims = [
        ("coder0", MINE, 1), ("coder1", MINE, 10), ("coder2", MINE, 100), ("coder0", OTHERS, 1_000),
        ("coder0", "0000000c", 10_000), ("coder0", "x' OR 1 --\0\ud800", 100_000), ("coder1", OTHERS, 1_000_000),
    ]  # fmt: skip
    page = Ledger(limit=len(claims))
    for seq, (agent, claimed, used) in enumerate(claims, start=1):
        made = entry(seq)
        page.entries.append(replace(made, agent=agent, task=claimed, tokens=replace(made.tokens, input=used), raw=None))
    heard: list[str | None] = []

    async def noted(tx: Any, entries: Any) -> None:
        del tx
        heard.extend(each.task for each in entries)

    copier = LedgerImport(store=store, pages=page, clock=lambda: NOW, redact=str, told=_untold, noted=noted)
    while await copier.copy():
        pass
    async with store.read() as tx:
        sums = await usage_queries.by_task(tx, [MINE, OTHERS, "0000000c"])
        found = {key: each.kinds["input"] for key, each in sums.items()}
        assert found == {MINE: 11, OTHERS: 1_000_000}
        everybody = await usage_ledger.spent(tx, by=None, since=0)
    assert everybody[0].input_tokens == 1_111_111, "what it used counts all the same"
    assert heard == [MINE, MINE, None, None, None, None, OTHERS]


async def test_a_page_costs_two_questions_however_many_requests_it_has(store: Store) -> None:
    asked: list[str] = []
    async with store.write(STEP) as tx:
        for number in range(100):
            await tasks.add(tx, task(f"{number:08x}", "coder1", 3))
    entries = [replace(entry(seq), task=f"{seq % 100:08x}") for seq in range(1, 501)]
    async with store.read() as tx:
        event.listen(tx.sync_connection, "before_cursor_execute", lambda *given: asked.append(given[2]))
        assert not any(each.task for each in await believed(tx, entries))
        assert len(asked) == 2, asked
        asked.clear()
        assert await believed(tx, [entry(1)]) == [entry(1)]
        assert not asked, "nothing is asked where nobody is at a task"
