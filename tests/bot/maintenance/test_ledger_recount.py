"""Sums that went wrong are put right by themselves, and nothing else is written."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import delete, update
from structlog.testing import capture_logs

from bot.config.paths import Paths
from bot.maintenance import ledger_recount, retention_job
from bot.maintenance.ledger_recount import Recount
from database.engine.store import Store
from database.queries.spending import hourly_rollup, usage_ledger, usage_queries
from database.schema import spending as spending_table
from tests.bot.maintenance.installation import STEP
from tests.crash.deaths import die_at
from tests.database.queries.rows import DAY, NOON, row


async def opened(paths: Paths, days: int) -> Store:
    store = await Store.open(paths.register_url)
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, [row(seq, ended_at=NOON + seq * DAY) for seq in range(1, days + 1)])
    return store


async def test_all_days_are_counted_in_time_from_the_newest_on(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_recount, "DAYS", 2)
    store = await opened(paths, 5)
    async with store.write(STEP) as tx:
        await tx.execute(delete(spending_table))
    recount, counted = Recount(store, lambda: NOON + 9 * DAY), []
    for _ in range(3):
        with capture_logs() as told:
            await recount.next()
        assert {each["event"] for each in told} == {"spending.wrong"}
        async with store.read() as tx:
            counted.append((await usage_queries.used(tx, "all", 0.0)).requests)
    assert counted == [2, 4, 5]
    with capture_logs() as told:
        for _ in range(3):
            await recount.next()
    assert told == []
    async with store.write(STEP) as tx:
        assert await hourly_rollup.recount(tx, 20_005) == []
        await tx.execute(delete(spending_table))
    # It has begun again.
    await recount.next()
    async with store.read() as tx:
        assert (await usage_queries.used(tx, "all", 0.0)).requests == 2
    await store.close()


async def test_what_comes_late_takes_no_sums_away_of_rows_that_were_forgotten(paths: Paths) -> None:
    store = await opened(paths, 3)
    now = NOON + 402.7 * DAY
    for _ in range(3):
        await retention_job.sweep(store, paths, lambda: now)
    async with store.write(STEP) as tx:
        # One of a day whose rows are gone, and one of a machine that did not know what time it was.
        late = [row(8, ended_at=NOON + DAY + 1), row(9, ended_at=1000.0)]
        await usage_ledger.add(tx, late)
    recount = Recount(store, lambda: now)
    for _ in range(2):
        await recount.next()
    async with store.read() as tx:
        assert (await usage_queries.used(tx, "all", 0.0)).requests == 5
    await store.close()


@pytest.mark.parametrize("place", ["spending.recount.before", "spending.recount.after"])
def test_killed_at_this_place_a_day_has_its_old_sums_or_right_ones(paths: Paths, place: str) -> None:
    async def broken() -> None:
        store = await opened(paths, 1)
        async with store.write(STEP) as tx:
            await tx.execute(update(spending_table).values(requests=7))
        await store.close()

    async def look(*, mend: bool) -> int:
        store = await Store.open(paths.register_url)
        if mend:
            await Recount(store, lambda: NOON + 9 * DAY).next()
        async with store.read() as tx:
            found = (await usage_queries.used(tx, "all", 0.0)).requests
        await store.close()
        return found

    asyncio.run(broken())
    die_at(place, lambda: asyncio.run(look(mend=True)))
    assert asyncio.run(look(mend=False)) == (7 if place.endswith("before") else 1)
    assert asyncio.run(look(mend=True)) == 1


async def test_rows_go_before_their_sums(paths: Paths) -> None:
    store = await opened(paths, 3)
    for _ in range(3):
        await retention_job.sweep(store, paths, lambda: NOON + 402.7 * DAY)
    async with store.read() as tx:
        assert await hourly_rollup.day_before(tx, None) == 20_003
        assert await hourly_rollup.day_before(tx, 20_003) is None
        assert (await usage_queries.used(tx, "all", 0.0)).requests == 3
    await retention_job.sweep(store, paths, lambda: NOON + 5.1 * 365 * DAY)
    async with store.read() as tx:
        assert (await usage_queries.used(tx, "all", 0.0)).requests == 0
    await store.close()
