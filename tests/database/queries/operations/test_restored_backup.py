"""What was in the queue, asked or allowed when a backup was made is not done, asked or used once more."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Float, Integer, Table, insert, select

from core.crash_points import declare
from database.engine.store import Store
from database.queries import tasks
from database.queries.operations import restored_backup
from database.schema import (
    account_leases,
    authorizations,
    continuations,
    issue_runs,
    questions,
    runs,
    schedules,
    task_events,
    topic_words,
    topics,
    trace_positions,
    trace_waiting,
    web_sessions,
)
from database.schema import tasks as tasks_table

STEP = declare("tests.restores")
THEN, NOW = 1_800_000_000.0, 1_800_003_600.0


def some(table: Table, key: str, **said: Any) -> dict[str, Any]:
    """A row with something in every column that needs it."""
    made: dict[str, Any] = {}
    for column in table.c:
        if column.nullable or column.name in ("seq", "tenant_id", "host"):
            continue
        kind = column.type
        made[column.name] = (
            False if isinstance(kind, Boolean) else THEN if isinstance(kind, Float) else 1 if isinstance(kind, Integer)
            else [] if kind.__class__.__name__ == "JSON" else key
        )  # fmt: skip
    return made | said


async def test_nothing_that_waited_is_done_again(store: Store) -> None:
    states = ["queued", "dispatched", "running", "waiting", "done", "failed", "cancelled"]
    async with store.write(STEP) as tx:
        for state in states:
            await tx.execute(
                insert(tasks_table).values(some(tasks_table, state, state=state, ended_at=None, retries=2))
            )
        for table, state in (
            (questions, "pending"), (questions, "answered"), (continuations, "waiting"), (continuations, "done"),
        ):  # fmt: skip
            await tx.execute(insert(table).values(some(table, state, state=state)))
        await tx.execute(insert(authorizations).values(some(authorizations, "lives")))
        await tx.execute(insert(authorizations).values(some(authorizations, "over", ended_at=THEN, ended="used")))
        await tx.execute(insert(account_leases).values(some(account_leases, "coder0")))
        await tx.execute(insert(schedules).values(some(schedules, "daily")))
    async with store.write(STEP) as tx:
        settled = await restored_backup.settle(tx, "r", now=NOW, backup_at=THEN, places={})
    assert (settled.tasks, settled.questions, settled.authorizations) == (4, 1, 1)
    async with store.read() as tx:
        found = {state: await tasks.get(tx, state) for state in states}
        assert [each.state for each in found.values() if each] == ["failed"] * 4 + ["done", "failed", "cancelled"]
        queued = found["queued"]
        assert queued is not None
        assert (queued.ended_at, queued.retries) == (NOW, 0)
        assert "whether it was done" in (queued.summary or "")
        (step,) = await tasks.steps(tx, "queued")
        assert (step.state, step.at) == ("failed", NOW)
        assert await tasks.steps(tx, "done") == []
        assert await tasks.counts(tx) == tasks.TaskCounts()

        async def column(name: str, table: Table) -> list[str]:
            return [row[0] for row in await tx.execute(select(table.c[name]).order_by(table.c.id))]

        assert await column("state", questions) == ["answered", "withdrawn"]
        assert await column("state", continuations) == ["done", "dropped"]
        assert await column("ended", authorizations) == ["taken back", "used"]
        assert (await tx.execute(select(account_leases))).all() == []
        assert len((await tx.execute(select(schedules))).all()) == 1
        assert len((await tx.execute(select(task_events))).all()) == 4


async def test_no_topic_begins_or_ends_a_second_time(store: Store) -> None:
    states = ["ended", "ending", "idle", "open", "waiting", "waking"]
    async with store.write(STEP) as tx:
        for number, state in enumerate(states):
            await tx.execute(insert(topics).values(some(topics, state, state=state, number=number)))
        await tx.execute(insert(topic_words).values(some(topic_words, "said")))
    async with store.write(STEP) as tx:
        await restored_backup.settle(tx, "r", now=NOW, backup_at=THEN, places={})
    async with store.read() as tx:
        found = {row[0]: row[1] for row in await tx.execute(select(topics.c.id, topics.c.state))}
        assert found == {**dict.fromkeys(states, "idle"), "ended": "ended", "waiting": "ended"}
        assert (await tx.execute(select(topic_words))).all() == []


async def test_no_run_goes_on(store: Store) -> None:
    async with store.write(STEP) as tx:
        for state in ("queued", "running", "done"):
            await tx.execute(insert(runs).values(some(runs, state, state=state)))
        await tx.execute(insert(runs).values(some(runs, "5e7a1c-1", state="running")))
        for number, state in enumerate(("queued", "running", "frozen")):
            await tx.execute(insert(issue_runs).values(some(issue_runs, state, state=state, number=number)))
    async with store.write(STEP) as tx:
        settled = await restored_backup.settle(tx, "r", now=NOW, backup_at=THEN, places={})
    assert settled.runs == 4, "two of prompts and two of issues; a round is no run of its own"
    async with store.read() as tx:
        found = {row[0]: row[1] for row in await tx.execute(select(runs.c.id, runs.c.state))}
        assert found == {"queued": "failed", "running": "failed", "5e7a1c-1": "failed", "done": "done"}
        found = {row[0]: row[1] for row in await tx.execute(select(issue_runs.c.id, issue_runs.c.state))}
        assert found == {"queued": "failed", "running": "failed", "frozen": "frozen"}


async def test_no_browser_is_logged_in_again(store: Store) -> None:
    async with store.write(STEP) as tx:
        for state in ("asked", "confirmed", "open", "ended"):
            await tx.execute(insert(web_sessions).values(some(web_sessions, state, state=state)))
    async with store.write(STEP) as tx:
        await restored_backup.settle(tx, "r", now=NOW, backup_at=THEN, places={})
    async with store.read() as tx:
        assert (await tx.execute(select(web_sessions))).all() == []


async def test_traces_begin_anew(store: Store) -> None:
    async with store.write(STEP) as tx:
        await tx.execute(insert(trace_positions).values(some(trace_positions, "id")))
        await tx.execute(insert(trace_waiting).values(some(trace_waiting, "inbox")))
    async with store.write(STEP) as tx:
        await restored_backup.settle(tx, "r", now=NOW, backup_at=THEN, places={})
    async with store.read() as tx:
        for table in (trace_positions, trace_waiting):
            assert (await tx.execute(select(table))).all() == []
