"""Sums by the hour are those of the rows, whatever is asked for, whatever comes twice, and whoever dies in between."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import delete, select, update

from core.crash_points import declare
from database.engine.store import Store
from database.queries.spending import hourly_rollup, rollup_name_limits, usage_ledger, usage_queries
from database.queries.spending.usage_queries import HOUR, NOTHING
from database.schema import ledger as ledger_table
from database.schema import spending as spending_table
from tests.database.queries.rows import DAY, NOON, added_up, random_row, row

STEP = declare("tests.spending")
HEIRS = {"docs": ["docs", "docs-web"]}


def fleet(chance: random.Random, count: int, days: float = 3.0) -> list[dict[str, Any]]:
    return [random_row(seq, chance, begin=NOON, end=NOON + days * DAY) for seq in range(1, count + 1)]


async def write(store: Store, rows: list[dict[str, Any]]) -> None:
    for begin in range(0, len(rows), 100):
        async with store.write(STEP) as tx:
            await usage_ledger.add(tx, rows[begin : begin + 100])


def moment(chance: random.Random, days: float = 3.0) -> float:
    """Before, within and after; on an hour, too."""
    at = chance.uniform(NOON - DAY / 10, NOON + (days + 0.1) * DAY)
    return at // HOUR * HOUR if chance.random() < 0.3 else at


def counts_on(scope: str, each: dict[str, Any]) -> bool:
    sort, _, name = scope.partition(":")
    if sort in ("host", "all") and not name:
        return True
    return bool(each[sort] in HEIRS[name] if scope == "profile:docs" else each[sort] == name)


SCOPES = ["agent:coder0", "role:research", "profile:docs", "profile:docs-web", "provider:openai", "account:main",
          "host", "host:elsewhere", "host:other", "all", "agent:nobody"]  # fmt: skip


async def test_what_a_scope_used_is_the_sum_of_its_rows_between_any_two_moments(
    store: Store, chance: random.Random
) -> None:
    rows = fleet(chance, 400)
    await write(store, rows)
    asked = [(scope, moment(chance)) for scope in SCOPES for _ in range(3)]
    async with store.read() as tx:
        for scope, since in asked:
            until = chance.choice([None, since + chance.uniform(0, 2 * HOUR), moment(chance), since])
            within = [
                each for each in rows if each["ended_at"] >= since and (until is None or each["ended_at"] < until)
            ]
            found = await usage_queries.used(tx, scope, since, until, heirs=HEIRS)
            assert found == added_up(each for each in within if counts_on(scope, each)), (scope, since, until)
        many = await usage_queries.used_many(tx, asked, heirs=HEIRS)
        end = NOON + DAY + 900.0
        ended = await usage_queries.used_many(tx, asked, until=end, heirs=HEIRS)
        assert ended == [await usage_queries.used(tx, scope, since, end, heirs=HEIRS) for scope, since in asked]
        assert ended != many
        assert await usage_queries.used_many(tx, asked, until=NOON - DAY) == [NOTHING] * len(asked)
    assert many == [
        added_up(each for each in rows if each["ended_at"] >= since and counts_on(scope, each))
        for scope, since in asked
    ]
    assert sum(each.requests for each in many)


async def test_there_are_no_sums_of_what_is_no_scope(store: Store) -> None:
    async with store.read() as tx:
        for scope in ("launch:l1", "agent:", "agents", "", "host: "):
            if scope == "host: ":
                assert await usage_queries.used(tx, scope, 0.0) == NOTHING
                continue
            with pytest.raises(ValueError, match="account:NAME"):
                await usage_queries.used(tx, scope, 0.0)
        assert await usage_queries.used_many(tx, []) == []


async def test_tasks_count_over_all_time(store: Store, chance: random.Random) -> None:
    rows = fleet(chance, 200)
    await write(store, rows)
    async with store.read() as tx:
        found = await usage_queries.by_task(tx, ["t1", "t2", "t3"])
    assert found == {
        name: added_up(each for each in rows if each["task"] == name)
        for name in ("t1", "t2")
        if any(each["task"] == name for each in rows)
    }


@pytest.mark.parametrize("bucket", [300.0, HOUR, 6 * HOUR, DAY])
async def test_pieces_of_time_come_to_what_was_used_in_each(store: Store, chance: random.Random, bucket: float) -> None:
    rows = fleet(chance, 300)
    await write(store, rows)
    since, until = NOON + 0.5 * DAY + 700.25, NOON + (0.7 if bucket < HOUR else 2.6) * DAY
    async with store.read() as tx:
        found = await usage_queries.series(tx, "agent:coder1", since, bucket, until=until)
        with pytest.raises(ValueError, match="whole hours"):
            await usage_queries.series(tx, "host", since, 5000, until=until)
    begin = since if bucket < HOUR else since // HOUR * HOUR
    assert [at for at, _ in found] == [begin + index * bucket for index in range(len(found))]
    assert found[-1][0] < until <= found[-1][0] + bucket
    for at, sums in found:
        assert sums == added_up(
            each for each in rows if each["agent"] == "coder1" and at <= each["ended_at"] < min(at + bucket, until)
        ), at


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
async def test_days_are_those_of_the_operators_zone(store: Store, chance: random.Random, zone: str) -> None:
    # Over the end of daylight saving time in New York.
    noon = datetime(2026, 10, 31, 12, tzinfo=UTC).timestamp()
    rows = [random_row(seq, chance, begin=noon, end=noon + 3 * DAY) for seq in range(1, 300)]
    await write(store, rows)
    since = noon + chance.uniform(0, DAY)
    for until in (None, noon + 2 * DAY + 100):
        days: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for each in rows:
            if each["ended_at"] >= since and (until is None or each["ended_at"] < until):
                days[f"{datetime.fromtimestamp(each['ended_at'], ZoneInfo(zone)):%Y-%m-%d}"].append(each)
        async with store.read() as tx:
            found = await usage_queries.days(tx, since, ZoneInfo(zone), until=until)
        assert found == {day: added_up(days[day]) for day in sorted(days)}
        assert list(found) == sorted(found)


# --- keeping them ------------------------------------------------------------------------------------------------


async def test_rows_that_come_again_or_whose_transaction_fails_count_once(store: Store, chance: random.Random) -> None:
    rows, at = fleet(chance, 150), 0
    while at < len(rows):
        # What was written already comes again, as after a restart that did not hear of the commit.
        begin, end = max(0, at - chance.randrange(10)), min(len(rows), at + chance.randrange(1, 20))
        try:
            async with store.write(STEP) as tx:
                await usage_ledger.add(tx, rows[begin:end])
                if chance.random() < 0.3:
                    raise InterruptedError
        except InterruptedError:
            continue
        at = end
        if chance.random() < 0.1:
            async with store.read() as tx:
                assert await hourly_rollup.verify(tx) == []
    async with store.read() as tx:
        assert await usage_queries.used(tx, "all", 0.0) == added_up(rows)
        assert await hourly_rollup.verify(tx) == []


async def test_sums_that_are_wrong_are_found_and_put_right(store: Store, chance: random.Random) -> None:
    rows = fleet(chance, 120)
    await write(store, rows)
    async with store.write(STEP) as tx:
        # Rows without their sums, as an older Muster writes them; sums without their rows; and a wrong one.
        await tx.execute(delete(spending_table).where(spending_table.c.agent == "coder1"))
        await tx.execute(delete(ledger_table).where(ledger_table.c.agent == "writer0"))
        one = (
            (await tx.execute(select(spending_table).where(spending_table.c.agent == "coder0").limit(1)))
            .mappings()
            .one()
        )
        same = [spending_table.c[name] == one[name] for name in hourly_rollup.KEY]
        await tx.execute(update(spending_table).where(*same).values(output_tokens=spending_table.c.output_tokens + 1))
    async with store.read() as tx:
        found = await hourly_rollup.verify(tx)
    assert {each.key["agent"] for each in found if each.kept is None} == {"coder1"}
    assert {each.key["agent"] for each in found if each.counted is None} == {"writer0"}
    assert [each.key["agent"] for each in found if each.kept and each.counted] == ["coder0"]
    mended = 0
    async with store.write(STEP) as tx:
        day = await hourly_rollup.day_before(tx, None)
        while day is not None:
            mended += len(await hourly_rollup.recount(tx, day))
            day = await hourly_rollup.day_before(tx, day)
    assert mended == len(found)
    async with store.read() as tx:
        assert await hourly_rollup.verify(tx) == []
        left = [each for each in rows if each["agent"] != "writer0"]
        assert await usage_queries.used(tx, "all", 0.0) == added_up(left)


async def test_a_clock_that_was_years_ahead_costs_no_look_at_every_day_between(store: Store) -> None:
    await write(store, [row(1), row(2, ended_at=NOON + 3650 * DAY), row(3, ended_at=NOON + DAY)])
    seen = []
    async with store.read() as tx:
        day = await hourly_rollup.day_before(tx, None)
        while day is not None:
            seen.append(day)
            day = await hourly_rollup.day_before(tx, day)
    assert seen == [23_650, 20_001, 20_000]


async def test_names_that_an_agent_thinks_of_do_not_make_more_sums(store: Store, chance: random.Random) -> None:
    rows = [
        row(seq, model=f"model-{seq}", task=f"task-{seq}", ended_at=NOON + chance.uniform(-5, 5) * HOUR)
        for seq in range(1, 400)
    ]
    honest = [row(seq, agent="coder1", ended_at=NOON) for seq in range(400, 410)]
    await write(store, rows + honest)
    async with store.read() as tx:
        found = {each.key: each.requests for each in await usage_ledger.spent(tx, by="model", since=NOON - DAY / 4)}
        assert found == {f"model-{n}": 1 for n in range(1, rollup_name_limits.MODELS + 1)} | {
            rollup_name_limits.OTHER: len(rows) - rollup_name_limits.MODELS,
            "opus": len(honest),
        }
        tasks = {each.key: each.requests for each in await usage_ledger.spent(tx, by="task", since=NOON - DAY / 4)}
        assert len(tasks) == rollup_name_limits.TASKS + 2
        assert tasks[rollup_name_limits.OTHER] == len(rows) - rollup_name_limits.TASKS
        assert await usage_queries.used(tx, "agent:coder0", 0.0) == added_up(rows)
        # A recount knows the same names.
        assert await hourly_rollup.verify(tx) == []


async def test_a_name_that_cannot_be_stored_as_it_is_counts_as_it_is_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two names there is room for, and as they are stored there are two.
    monkeypatch.setattr(rollup_name_limits, "MODELS", 2)
    monkeypatch.setattr(rollup_name_limits, "TASKS", 2)
    names = ["a\x00", "a\ud83d", "a\x00", "b"]
    await write(store, [row(seq, model=name, task=name) for seq, name in enumerate(names, 1)])
    await write(store, [row(9, model="a\x00", task="a\x00")])
    async with store.read() as tx:
        assert await hourly_rollup.verify(tx) == []
        assert sum(each.requests for each in await usage_ledger.spent(tx, by="model", since=NOON)) == 5


# --- forgetting --------------------------------------------------------------------------------------------------


async def test_sums_stay_when_their_rows_are_forgotten(store: Store, chance: random.Random) -> None:
    rows = fleet(chance, 300)
    await write(store, rows)
    async with store.write(STEP) as tx:
        # Only whole days go, and one at a time.
        assert await usage_ledger.forget(tx, NOON + DAY / 3) == 0
        gone = await usage_ledger.forget(tx, NOON + 1.6 * DAY)
        assert gone == sum(each["ended_at"] < NOON + DAY / 2 for each in rows)
        assert await usage_ledger.forget(tx, NOON + 1.6 * DAY) > 0
        assert await usage_ledger.forget(tx, NOON + 1.6 * DAY) == 0
    kept_from = NOON + 1.5 * DAY
    async with store.read() as tx:
        assert await hourly_rollup.verify(tx) == []
        assert await usage_queries.used(tx, "all", 0.0) == added_up(rows)
        for scope in ("agent:coder0", "account:main"):
            since, until = NOON + 0.3 * DAY, NOON + 2.2 * DAY + 5.5
            # Of an hour that is cut in two and has no rows any more, all is counted.
            begin = since // HOUR * HOUR
            expected = added_up(each for each in rows if begin <= each["ended_at"] < until and counts_on(scope, each))
            assert await usage_queries.used(tx, scope, since, until) == expected
            assert (await usage_queries.used_many(tx, [(scope, since)]))[0] == added_up(
                each for each in rows if begin <= each["ended_at"] and counts_on(scope, each)
            )
        found = await usage_queries.days(tx, NOON + DAY, ZoneInfo("Asia/Kolkata"))
        assert sum((each for each in found.values()), NOTHING) == added_up(
            each for each in rows if each["ended_at"] >= NOON + DAY
        )
    async with store.write(STEP) as tx:
        await hourly_rollup.forget(tx, kept_from)
        assert await usage_queries.used(tx, "all", 0.0) == added_up(
            each for each in rows if each["ended_at"] >= kept_from
        )
