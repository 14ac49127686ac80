"""An order is done once, whoever waits and whatever dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from core.crash_points import Step
from core.errors import RegisterAway
from database.engine.store import Store
from database.queries.forge import forge_events, forge_orders
from database.queries.forge.forge_events import ForgeEventRow
from database.queries.forge.forge_orders import ForgeOrder
from forge.model.errors import ForgeAway
from forge.runs.order_book import DONE, INTERNAL, Act, ActAgain, Acted, OrderBook


@asynccontextmanager
async def running(store: Store, act: Act) -> AsyncIterator[OrderBook]:
    book = OrderBook(store, act, time.time, rng=lambda: 0.0)
    task = asyncio.create_task(book.run())
    try:
        yield book
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def answering(*answers: Acted | ActAgain | Exception) -> tuple[Act, list[str]]:
    left, done = list(answers), list[str]()

    async def act(order: ForgeOrder) -> Acted | ActAgain:
        done.append(order.key)
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return act, done


async def test_what_is_ordered_twice_is_done_once(store: Store) -> None:
    act, done = answering(Acted("pushed"))
    async with running(store, act) as book:
        outcomes = await asyncio.gather(*(book.place("r/1/publish", "r", "publish") for _ in range(5)))
        assert outcomes == ["pushed"] * 5
        assert await book.place("r/1/publish", "r", "publish") == "pushed"
    assert done == ["r/1/publish"]


async def test_an_outcome_outlives_who_waited(store: Store) -> None:
    act, done = answering(Acted("pushed"))
    async with running(store, act) as book:
        await book.place("r/1/publish", "r", "publish")
    async with running(store, act) as book:
        assert await book.place("r/1/publish", "r", "publish") == "pushed"
    assert done == ["r/1/publish"]


async def test_an_order_of_a_process_that_died_is_done(store: Store) -> None:
    act, done = answering(Acted("pushed"))
    waiting = asyncio.create_task(OrderBook(store, act, time.time).place("r/1/publish", "r", "publish"))
    while not await _stands(store, "r/1/publish"):
        await asyncio.sleep(0)
    waiting.cancel()
    async with running(store, act) as book:
        assert await book.place("r/1/publish", "r", "publish") == "pushed"
    assert done == ["r/1/publish"]


async def _stands(store: Store, key: str) -> bool:
    async with store.read() as tx:
        return await forge_orders.get(tx, key) is not None


@pytest.mark.parametrize("error", [ForgeAway(), RegisterAway(), ZeroDivisionError()])
async def test_what_cannot_be_done_now_is_tried_again(store: Store, error: Exception) -> None:
    act, done = answering(error, error, Acted("done"))
    now = [time.time()]

    def clock() -> float:
        now[0] += 400.0
        return now[0]

    book = OrderBook(store, act, clock, rng=lambda: 0.0)
    task = asyncio.create_task(book.run())
    assert await book.place("r/1/propose", "r", "propose") == "done"
    assert len(done) == 3
    task.cancel()


async def test_an_order_that_waits_is_woken(store: Store) -> None:
    act, done = answering(ActAgain("The agent works."), Acted("signalled"))
    async with running(store, act) as book:
        waiting = asyncio.create_task(book.place("r/1/work", "r", "work"))
        while not (row := await _row(store, "r/1/work")) or row.tries == 0:
            await asyncio.sleep(0.01)
        assert row.detail == "The agent works."
        assert not waiting.done()
        book.wake("r/1/work")
        assert await waiting == "signalled"
    assert len(done) == 2


async def _row(store: Store, key: str) -> ForgeOrder | None:
    async with store.read() as tx:
        return await forge_orders.get(tx, key)


async def test_what_belongs_to_an_outcome_is_written_with_it(store: Store) -> None:
    event = ForgeEventRow(forge="f", delivery="d", name="x", repository="a/b", number=1, sha=None, received_at=1.0)

    async def also(tx: AsyncConnection) -> None:
        await forge_events.add(tx, [event])

    act, _ = answering(Acted("done", also))
    async with running(store, act) as book:
        await book.place("r/1/settle", "r", "settle")
    async with store.read() as tx:
        assert await forge_events.waiting(tx, limit=9) == [event]


async def test_one_order_does_not_hold_up_others(store: Store) -> None:
    hold = asyncio.Event()

    async def act(order: ForgeOrder) -> Acted:
        if order.run == "slow":
            await hold.wait()
        return Acted("done")

    async with running(store, act) as book:
        slow = asyncio.create_task(book.place("slow/1/work", "slow", "work"))
        assert await book.place("quick/1/work", "quick", "work") == "done"
        assert not slow.done()
        hold.set()
        assert await slow == "done"


async def test_what_waits_is_tried_by_the_next_process_at_once(store: Store) -> None:
    act, done = answering(ActAgain("The agent works."), Acted("signalled"))
    async with running(store, act) as book:
        waiting = asyncio.create_task(book.place("r/1/work", "r", "work"))
        while not (row := await _row(store, "r/1/work")) or row.tries == 0:
            await asyncio.sleep(0.01)
        waiting.cancel()
    async with running(store, act) as book:
        assert await book.place("r/1/work", "r", "work") == "signalled"
    assert len(done) == 2


async def test_an_outcome_whose_commit_is_unsure_reaches_who_waits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failures = store.write, [1]

    @asynccontextmanager
    async def unsure(step: Step) -> AsyncIterator[AsyncConnection]:
        async with write(step) as tx:
            yield tx
        if step is DONE and failures:
            failures.pop()
            raise RegisterAway

    monkeypatch.setattr(store, "write", unsure)
    act, done = answering(Acted("pushed"))
    async with running(store, act) as book, asyncio.timeout(30):
        assert await book.place("r/1/publish", "r", "publish") == "pushed"
    assert done == ["r/1/publish"]


async def test_an_outcome_that_cannot_be_written_ends_no_other_order(store: Store) -> None:
    async def breaks(tx: AsyncConnection) -> None:
        raise ZeroDivisionError

    async def act(order: ForgeOrder) -> Acted:
        return Acted("done", breaks if order.run == "bad" else None)

    async with running(store, act) as book, asyncio.timeout(30):
        bad = asyncio.create_task(book.place("bad/1/settle", "bad", "settle"))
        while not (row := await _row(store, "bad/1/settle")) or row.tries == 0:
            await asyncio.sleep(0.01)
        assert row.detail == INTERNAL
        assert await book.place("good/1/settle", "good", "settle") == "done"
        bad.cancel()


async def test_the_orders_of_a_run_come_one_after_the_other(store: Store) -> None:
    at_once = most = 0

    async def act(order: ForgeOrder) -> Acted:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return Acted("done")

    async with running(store, act) as book, asyncio.timeout(30):
        await asyncio.gather(*(book.place(f"r/destroy/{number}", "r", "destroy") for number in range(20)))
    assert most == 1


async def test_what_is_woken_while_it_is_tried_is_tried_again(store: Store) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()
    answers: list[Acted | ActAgain] = [ActAgain("The agent works."), Acted("signalled")]

    async def act(order: ForgeOrder) -> Acted | ActAgain:
        answer = answers.pop(0)
        if answers:
            began.set()
            await may_end.wait()
        return answer

    async with running(store, act) as book:
        waiting = asyncio.create_task(book.place("r/1/work", "r", "work"))
        await began.wait()
        book.wake("r/1/work")
        await asyncio.sleep(0)
        may_end.set()
        assert await waiting == "signalled"
