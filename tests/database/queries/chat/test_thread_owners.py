"""A thread keeps its owner, and the tasks that have threads are found while those are wanted."""

from __future__ import annotations

from core.crash_points import declare
from database.engine.store import Store
from database.queries import tasks
from database.queries.chat import thread_owners
from database.queries.chat.thread_owners import Owner
from tests.database.queries.test_tasks import put, task

STEP = declare("tests.thread_owners")


async def test_a_thread_keeps_its_owner(store: Store) -> None:
    async with store.write(STEP) as tx:
        await thread_owners.note(tx, "th/1", "agent", "coder0")
        await thread_owners.note(tx, "th/1", "agent", "coder1")
        await thread_owners.note(tx, "c/1", "task", "1a2b3c4d")
    async with store.read() as tx:
        assert await thread_owners.of(tx, "th/1") == Owner("agent", "coder0")
        assert await thread_owners.of(tx, "c/1") == Owner("task", "1a2b3c4d")
        assert await thread_owners.of(tx, "c/2") is None


async def test_tasks_with_threads_are_found_until_some_time_after_their_end(store: Store) -> None:
    await put(
        store,
        task(1, thread_key="c/1"),
        task(2),
        task(3, thread_key="c/3", state="done", ended_at=100.0),
        task(4, thread_key="c/4", state="failed", ended_at=300.0),
    )
    async with store.read() as tx:
        assert [each.thread_key for each in await tasks.with_threads(tx, since=200.0)] == ["c/4", "c/1"]
        assert [each.thread_key for each in await tasks.with_threads(tx, since=0.0, limit=2)] == ["c/4", "c/3"]
