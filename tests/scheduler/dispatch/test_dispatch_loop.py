"""Tasks go to agents once, whoever looks how often, and a look costs the same however many wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from budget.dispatch.next_task import Assign, DispatchAgent, DispatchLimits, DispatchPolicy, TaskWait
from budget.windows.pace_admission import Cost
from database.queries import tasks
from database.queries.task_states import TaskEvent
from scheduler.dispatch.dispatch_inputs import Able, WindowSnapshot
from scheduler.dispatch.fairness_charges import correct
from tests.budget.dispatch.test_next_task import week
from tests.scheduler.dispatch.dispatcher import NOW, STEP, Desk, task
from tests.waiting import until


def agent(name: str, **said: str) -> DispatchAgent:
    return DispatchAgent(**{"name": name, "role": "coder", "runtime": "sim", "readiness": "idle", **said})  # type: ignore[arg-type]


@pytest.fixture
async def desk(register_url: str) -> AsyncIterator[Desk]:
    opened = await Desk.open(url=register_url)
    yield opened
    await opened.store.close()


async def test_each_task_goes_to_one_agent_however_many_look_at_once(desk: Desk) -> None:
    desk.paper.agents = {f"coder{number}": agent(f"coder{number}") for number in range(3)}
    await desk.put(*(task(number) for number in range(1, 6)))
    await asyncio.gather(*(desk.dispatcher.look() for _ in range(5)))
    assert [given[0] for given in desk.paper.given] == ["00000001", "00000002", "00000003"]
    assert len({given[1] for given in desk.paper.given}) == 3
    found = await desk.of(1)
    assert (found.state, found.attempt, found.message) == ("dispatched", 1, "task-00000001-1")
    assert found.projected_tokens
    waiting = await desk.of(4)
    assert (waiting.state, waiting.why) == ("queued", "busy")
    async with desk.store.write(STEP) as tx:
        await tasks.change(tx, "00000002", TaskEvent.FINISH, now=NOW, ended_at=NOW)
    await desk.dispatcher.look()
    assert desk.paper.given[-1][0] == "00000004"


async def test_two_who_dispatch_at_once_give_each_task_to_one_agent_and_each_agent_one_task(register_url: str) -> None:
    """As where one that leads no more has not heard of it: the other takes over while it thinks."""
    desks = [await Desk.open(url=register_url) for _ in range(2)]
    asked = desks[0].dispatcher.snapshot

    async def snapshot() -> WindowSnapshot:
        await desks[1].dispatcher.look()
        return await asked()

    desks[0].dispatcher.snapshot = snapshot
    try:
        for desk in desks:
            desk.paper.agents = {f"coder{number}": agent(f"coder{number}") for number in range(6)}
        await desks[0].put(*(task(number) for number in range(1, 9)))
        # The one that leads by now has heard of fewer agents.
        desks[1].paper.agents = {name: desks[0].paper.agents[name] for name in ("coder0", "coder3")}
        await desks[0].dispatcher.look()
        given = [each for desk in desks for each in desk.paper.given]
        assert len(given) == 6
        assert len(dict(given)) == len({name for _, name in given}) == 6
        async with desks[0].store.read() as tx:
            live = await tasks.live(tx)
        assert [each.attempt for each in live] == [1] * 6
        assert len({each.assigned for each in live}) == 6
    finally:
        for desk in desks:
            await desk.store.close()


async def test_what_was_decided_before_somebody_else_acted_gives_nothing_twice(desk: Desk) -> None:
    desk.paper.agents = {"coder0": agent("coder0")}
    await desk.put(task(1), task(2))
    seen = await desk.of(1)
    await desk.dispatcher.look()
    able = Able(agent=agent("coder0"))
    for each in (seen, await desk.of(2)):
        late = Assign(task=each.id, agent="coder0", cost=Cost(tokens=1.0), why="late")
        await desk.dispatcher.steps.assign(each, late, able)
    assert desk.paper.given == [("00000001", "coder0")]
    assert ((await desk.of(1)).attempt, (await desk.of(2)).state) == (1, "queued")


async def test_it_looks_when_it_is_told_to_and_at_the_time_at_which_something_may_begin(desk: Desk) -> None:
    desk.standings = {"host/tokens/7d": week(130_000)}
    desk.now = 20_000 * 86_400.0
    desk.paper.agents = {"coder0": agent("coder0")}
    desk.dispatcher.net_s = 3600.0
    running = asyncio.create_task(desk.dispatcher.run())
    try:
        await desk.put(task(1, estimate=1000.0, created_at=desk.now, updated_at=desk.now))
        desk.dispatcher.wake()
        await until(lambda: desk.of(1), lambda found: found.why == "pace", limit=20)
        assert desk.paper.heard == ["00000001 pace"]
        opens = (await desk.of(1)).look_at
        assert opens is not None
        assert desk.dispatcher.look_at == opens
        # Nothing happens but that it is time.
        desk.now = opens - 0.2
        desk.dispatcher.wake()
        await asyncio.sleep(0)
        desk.now = opens + 60
        await until(lambda: desk.of(1), lambda found: found.state == "dispatched", limit=20)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert desk.paper.heard == ["00000001 pace"]


async def test_who_cannot_be_started_is_tried_again_when_a_window_changes_and_not_before(desk: Desk) -> None:
    desk.paper.agents = {"coder0": agent("coder0", readiness="startable")}
    desk.paper.no_start = TaskWait(task="", why="pace", text="no room", look_at=NOW + 1000)
    await desk.put(task(1))
    await desk.dispatcher.look()
    await desk.dispatcher.look()
    assert desk.paper.started == ["00000001 coder0"]
    assert (await desk.of(1)).look_at == NOW + 1000
    desk.paper.no_start = None
    desk.dispatcher.opened()
    await desk.dispatcher.look()
    assert len(desk.paper.started) == 2
    assert (await desk.of(1)).why == "starting"


async def test_who_is_not_started_for_one_task_is_not_asked_for_each_that_is_alike(desk: Desk) -> None:
    desk.paper.agents = {f"coder{number}": agent(f"coder{number}", readiness="startable") for number in range(3)}
    desk.paper.no_start = TaskWait(task="", why="pace", text="no room", look_at=NOW + 1000)
    await desk.put(*(task(number, operator=f"operator{number}") for number in range(1, 11)))
    await desk.dispatcher.look()
    assert len(desk.paper.started) == 3
    assert [(await desk.of(number)).why for number in (1, 10)] == ["pace", "pace"]
    # A time that is past does not have it tried without end, nor does a clock that went back keep it from being tried.
    desk.paper.no_start = TaskWait(task="", why="pace", text="no room", look_at=NOW - 1)
    desk.dispatcher.opened()
    await desk.dispatcher.look()
    assert len(desk.paper.started) == 6
    desk.now = NOW - 365 * 86_400.0
    await desk.dispatcher.look()
    assert len(desk.paper.started) == 9


async def test_what_can_never_begin_does_not_hold_up_what_is_behind_it(desk: Desk) -> None:
    desk.standings = {"host/tokens/7d": week(0, limit=500_000.0)}
    desk.now = 20_000 * 86_400.0
    desk.paper.agents = {"coder0": agent("coder0")}
    when = {"created_at": desk.now, "updated_at": desk.now, "lane": "one"}
    await desk.put(task(1, estimate=9e6, **when), task(2, estimate=1000.0, **when))
    await desk.dispatcher.look()
    assert (await desk.of(1)).why == "limit"
    await desk.dispatcher.look()
    assert [given[0] for given in desk.paper.given] == ["00000002"]
    behind = await desk.of(1)
    assert (behind.state, behind.lane.endswith("/aside")) == ("queued", True)


async def test_whose_turn_it_is_waits_for_the_line_and_no_smaller_one_passes_it_but_a_critical_one(desk: Desk) -> None:
    desk.now = 20_000 * 86_400.0
    desk.paper.agents = {"coder0": agent("coder0")}
    when = {"created_at": desk.now, "updated_at": desk.now}
    desk.standings = {"host/tokens/7d": week(100_000)}
    await desk.put(task(1, **when), task(2, estimate=2000.0, **when))
    await desk.dispatcher.look()
    assert desk.paper.given == []
    first, second = await desk.of(1), await desk.of(2)
    assert (first.why, second.why) == ("pace", "fairness")
    assert second.reason == "It is not its turn yet: task 00000001 comes first on host/tokens/7d."
    assert first.look_at is not None
    assert second.look_at is not None
    assert first.look_at < second.look_at
    await desk.put(task(3, estimate=2000.0, urgency="critical", **when))
    await desk.dispatcher.look()
    assert [given[0] for given in desk.paper.given] == ["00000003"]


async def test_a_large_task_saves_from_when_it_is_found_and_what_it_costs_corrects_its_charge(desk: Desk) -> None:
    desk.now = 20_000 * 86_400.0
    desk.paper.agents = {"coder0": agent("coder0")}
    when = {"created_at": desk.now, "updated_at": desk.now}
    desk.standings = {"host/tokens/7d": week(100_000)}
    await desk.put(task(1, estimate=200_000.0, **when))
    await desk.dispatcher.look()
    large = await desk.of(1)
    assert (large.why, large.saves_from) == ("pace", desk.now)
    assert large.reason is not None
    assert "It saves for that" in large.reason
    desk.standings = {"host/tokens/7d": week(0)}
    desk.now += 2 * 86_400.0
    desk.dispatcher.opened()
    await desk.dispatcher.look()
    begun = await desk.of(1)
    assert (begun.state, begun.saves_from, begun.weight) == ("dispatched", None, 4.0)
    async with desk.store.write(STEP) as tx:
        assert await tasks.queues(tx) == {"normal ana": 50_000.0}
        await correct(tx, begun, 600_000.0, now=desk.now)
        assert await tasks.queues(tx) == {"normal ana": 150_000.0}, "as debt"
        await correct(tx, begun, 1000.0, now=desk.now)
        queues = await tasks.queues(tx)
    assert queues == {"normal ana": 100_250.0}


async def test_nobody_fills_what_is_looked_at_with_lanes_of_its_own(desk: Desk) -> None:
    await desk.put(*(task(number, kind=f"kind{number}") for number in range(1, 30)), task(99, operator="otto"))
    async with desk.store.read() as tx:
        heads = await tasks.lane_heads(tx, limit=5)
    assert [head.seq for head in heads] == sorted(head.seq for head in heads)
    assert [head.operator for head in heads] == ["ana"] * 4 + ["otto"]
    assert heads[0].id == "00000001"


async def test_under_a_limit_in_dollars_a_first_task_begins_and_from_it_others_learn_the_price(desk: Desk) -> None:
    free = week(0, limit=700.0)
    dollars = replace(free, window=replace(free.window, unit="usd"))
    desk.now = 20_000 * 86_400.0
    desk.standings = {"host/usd/7d": dollars}
    desk.paper.agents = {"coder0": agent("coder0"), "judge0": agent("judge0", role="judge")}
    await desk.put(task(1, estimate=1000.0))
    await desk.dispatcher.look()
    assert [given[0] for given in desk.paper.given] == ["00000001"]
    desk.standings = {"host/usd/7d": replace(dollars, under_way=1)}
    await desk.put(task(2, role="judge"))
    await desk.dispatcher.look()
    assert (await desk.of(2)).why == "price"
    ended: dict[str, Any] = {"ended_at": desk.now, "actual_tokens": 1000.0, "actual_usd": 0.02}
    async with desk.store.write(STEP) as tx:
        await tasks.change(tx, "00000001", TaskEvent.FINISH, now=desk.now, **ended)
    desk.dispatcher.learned_more()
    await desk.dispatcher.look()
    second = await desk.of(2)
    assert second.state == "dispatched"
    assert second.projected_usd == pytest.approx(2.0)  # 100,000 tokens at that price


async def test_limits_and_deadlines_hold(desk: Desk) -> None:
    desk.limits = DispatchLimits(host=1)
    desk.policy = DispatchPolicy(start_agents=False)
    desk.paper.agents = {"coder0": agent("coder0"), "coder1": agent("coder1")}
    await desk.put(task(1), task(2), task(3, role="nobody", deadline=NOW + 5))
    await desk.dispatcher.look()
    assert len(desk.paper.given) == 1
    assert (await desk.of(2)).why == "concurrency"
    desk.now = NOW + 5
    await desk.dispatcher.look()
    assert (await desk.of(3)).state == "failed"
    assert "00000003 refused: its deadline is past" in desk.paper.heard


async def test_a_deadline_passes_also_for_what_stands_behind_others_in_its_lane(desk: Desk) -> None:
    desk.paper.agents = {"coder0": agent("coder0", readiness="busy")}
    await desk.put(task(1), task(2, deadline=NOW + 30))
    await desk.dispatcher.look()
    assert (await desk.of(2)).state == "queued"
    desk.now = NOW + 61
    await desk.dispatcher.look()
    assert desk.paper.heard[-1] == "00000002 refused: its deadline is past"
    assert [(await desk.of(number)).state for number in (1, 2)] == ["queued", "failed"]


async def test_a_look_costs_the_same_however_many_wait(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine and in rows, not in time."""
    desk = await Desk.open(tmp_path)
    desk.paper.agents = {
        name: agent(name, role=f"role{place % 5}", readiness="busy")
        for place, name in enumerate(f"a{number}" for number in range(20))
    }
    counted: list[int] = []
    try:
        for count in (300, 2700):
            await desk.fill(count)
            await desk.dispatcher.look()
            async with desk.store.read() as tx:
                raw = (await tx.get_raw_connection()).driver_connection
                assert raw is not None
                steps = 0

                def count_one() -> int:
                    nonlocal steps
                    steps += 1
                    return 0

                await raw.set_progress_handler(count_one, 1)
                heads = await tasks.lane_heads(tx)
                await tasks.live(tx)
                await tasks.queues(tx)
                await raw.set_progress_handler(None, 1)
            assert len(heads) == 60
            counted.append(steps)
    finally:
        await desk.store.close()
    print("steps of the machine", counted)
    assert counted[1] < counted[0] * 1.2
