"""Tasks are in the queue once, their lanes are found whatever waits, and each step of theirs is remembered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.crash_points import declare
from database.engine.store import Store
from database.queries import tasks
from database.queries.task_states import TaskEvent
from database.queries.tasks import Task

STEP = declare("tests.tasks")


def task(number: int, **said: Any) -> Task:
    plain: dict[str, Any] = {
        "id": f"{number:08x}", "kind": "task", "text": f"task {number}", "role": "coder",
        "lane": "normal/role:coder/ana", "operator": "ana", "created_at": float(number), "updated_at": float(number),
    }  # fmt: skip
    return Task(**plain | said)


async def put(store: Store, *given: Task) -> None:
    async with store.write(STEP) as tx:
        for each in given:
            await tasks.add(tx, each)


async def test_a_task_is_added_once_and_found_by_the_beginning_of_its_id(store: Store) -> None:
    await put(store, task(1, attachments=[{"name": "a.png"}]), task(1, text="another"), task(0x10000002))
    async with store.read() as tx:
        found = await tasks.get(tx, "00000001")
        assert found is not None
        assert (found.text, found.attachments, found.seq) == ("task 1", [{"name": "a.png"}], 1)
        assert [each.id for each in await tasks.find(tx, "1")] == ["10000002"]
        assert await tasks.find(tx, "%") == []
        assert [(step.state, step.at) for step in await tasks.steps(tx, "00000001")] == [("queued", 1.0)]


async def test_each_lane_shows_its_first_task(store: Store) -> None:
    given = [task(number, lane=f"normal/role:{'abc'[number % 3]}/ana") for number in range(1, 10)]
    await put(store, *given, task(20, lane="low/role:a/ana", state="running"))
    async with store.read() as tx:
        assert [each.id for each in await tasks.lane_heads(tx)] == ["00000001", "00000002", "00000003"]
    async with store.write(STEP) as tx:
        assert await tasks.change(tx, "00000001", TaskEvent.ASSIGN, now=5.0)
    async with store.read() as tx:
        assert [each.id for each in await tasks.lane_heads(tx)] == ["00000002", "00000003", "00000004"]
        assert (await tasks.counts(tx))["queued"] == 8


async def test_a_step_is_taken_once_and_remembered(store: Store) -> None:
    await put(store, task(1))
    async with store.write(STEP) as tx:
        given: dict[str, Any] = {"attempt": 1, "assigned": "coder0", "reason": "it is its turn"}
        assert await tasks.change(tx, "00000001", TaskEvent.ASSIGN, now=5.0, decision={"deficit": 2.0}, **given)
        assert not await tasks.change(tx, "00000001", TaskEvent.ASSIGN, now=6.0, **given)
        assert not await tasks.change(tx, "00000001", TaskEvent.ACCEPT, attempt_is=2, now=6.0)
        assert await tasks.change(tx, "00000001", TaskEvent.ACCEPT, attempt_is=1, now=7.0)
        assert not await tasks.change(tx, "00000001", TaskEvent.BLOCK, only=["waiting"], now=8.0)
    async with store.read() as tx:
        found = await tasks.steps(tx, "00000001")
        assert [(each.state, each.at, each.decision) for each in found] == [
            ("queued", 1.0, None), ("dispatched", 5.0, {"deficit": 2.0}), ("running", 7.0, None),
        ]  # fmt: skip
        assert [each.id for each in await tasks.live(tx)] == ["00000001"]
        assert [each.id for each in await tasks.of_agent(tx, "coder0")] == ["00000001"]


async def test_ended_tasks_can_be_learned_from_and_are_forgotten_in_time(store: Store) -> None:
    over = {"state": "done", "attempt": 1, "assigned": "coder0"}
    await put(
        store,
        task(1, **over, actual_tokens=10.0, ended_at=10.0),
        task(2, **over, actual_tokens=20.0, ended_at=20.0),
        task(3, **over, ended_at=30.0),
        task(4, state="cancelled", ended_at=5.0),
        task(5),
    )
    async with store.write(STEP) as tx:
        assert [each.id[-1] for each in await tasks.ended(tx, role="coder")] == ["2", "1"]
        assert [each.id[-1] for each in await tasks.ended(tx, since=15.0)] == ["2"]
        assert [each.id[-1] for each in await tasks.unsettled(tx, since=0.0)] == ["3"]
        assert [each.id[-1] for each in await tasks.listing(tx)] == ["5"]
        assert [each.id[-1] for each in await tasks.last_ended(tx, limit=9, since=15.0)] == ["3", "2"]
        assert await tasks.forget(tx, 15.0) == 2
        assert await tasks.steps(tx, "00000001") == []
        assert [each.id[-1] for each in await tasks.last_ended(tx, limit=9)] == ["3", "2"]


async def test_what_flows_may_still_be_served_is_kept(store: Store) -> None:
    async with store.write(STEP) as tx:
        await tasks.keep_queues(tx, {"low ana": 2.0, "high otto": 1.0, "low vera": -1.0}, now=1.0)
        await tasks.keep_queues(tx, {"low ana": 3.0, "high otto": 0.0}, now=2.0)
        assert await tasks.queues(tx) == {"low ana": 3.0}


async def test_finding_the_heads_costs_the_same_however_many_wait(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine, in which a scan of what waits would show."""
    store = await Store.open(f"sqlite:///{tmp_path / 'register.db'}")
    taken: list[int] = []
    try:
        for lanes_long in (3, 40):
            async with store.write(STEP) as tx:
                for lane in range(40):
                    for place in range(lanes_long):
                        number = lanes_long * 1000 + lane * lanes_long + place
                        await tasks.add(tx, task(number, lane=f"normal/role:r{lane}/ana"))
            async with store.read() as tx:
                raw = (await tx.get_raw_connection()).driver_connection
                assert raw is not None
                steps = 0

                def count() -> int:
                    nonlocal steps
                    steps += 1
                    return 0

                await raw.set_progress_handler(count, 1)
                assert len(await tasks.lane_heads(tx)) == 40
                await raw.set_progress_handler(None, 1)
                taken.append(steps)
    finally:
        await store.close()
    print("steps of the machine", taken)
    assert taken[1] < taken[0] * 1.2
