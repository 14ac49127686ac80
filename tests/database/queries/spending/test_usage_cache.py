"""What is kept of sums from one look to the next is what a look at everything finds, and reads what is new alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.crash_points import declare
from database.engine.store import Store
from database.queries.spending import hourly_rollup, usage_ledger, usage_queries
from database.queries.spending.usage_cache import EVERY_S, UsageQuestion, UsageTally
from database.queries.spending.usage_queries import AHEAD_S, HOUR, NOTHING, Sums
from database.schema import ledger as ledger_table
from database.schema import spending as spending_table
from tests.database.queries.rows import DAY, NOON, added_up, random_row, row

STEP = declare("tests.tallies")
HEIRS = {"docs": ["docs", "docs-web"]}
SCOPES = ("agent:coder0", "agent:nobody", "role:research", "profile:docs", "provider:openai", "account:main", "host",
          "host:elsewhere", "all")  # fmt: skip


async def in_full(tx: AsyncConnection, asked: Sequence[UsageQuestion], now: float) -> list[Sums]:
    """Everything that is asked for, read anew."""
    until, made = now + AHEAD_S, []
    plain = await usage_queries.used_many(tx, [each[:2] for each in asked], until=until, heirs=HEIRS)
    for each, sums in zip(asked, plain, strict=True):
        if each.account is not None:
            sums = NOTHING
            sort, _, name = each.scope.partition(":")
            columns = ["account", *([sort] if name else [])]
            for key, part in (await usage_queries.groups(tx, columns, each.since, until)).items():
                names = HEIRS.get(name, [name]) if sort == "profile" else [name]
                if key[0] == each.account and (not name or key[1] in names):
                    sums += part
        made.append(sums)
    return made


async def look(store: Store, tally: UsageTally, asked: Sequence[UsageQuestion], now: float) -> list[Sums]:
    tally.begin()
    async with store.read() as tx:
        kept = await tally.look(tx, now)
        half = len(asked) // 2
        return [
            *await kept.used(tx, asked[:half], now=now, heirs=HEIRS),
            *await kept.used(tx, asked[half:], now=now, heirs=HEIRS),
        ]


class World:
    """Two hosts' ledgers, a clock, and windows, to which things happen."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        self.store, self.chance = store, chance
        self.now = NOON + 2 * DAY
        self.kept_from = 0.0
        """Rows before then may be forgotten: of those hours only sums are known, and no row comes so late."""
        self.seqs = {"one": 0, "two": 0}
        self.starts = [self._start() for _ in range(6)]

    def _start(self) -> float:
        at = self.now - self.chance.choice([60.0, HOUR, DAY, 3 * DAY]) * self.chance.random()
        return self.chance.choice([at, at // HOUR * HOUR, at // DAY * DAY, 0.0, self.now, self.now + 2 * AHEAD_S])

    def asked(self) -> list[UsageQuestion]:
        scopes = [(scope, self.chance.choice([None, None, "main", "spare"])) for scope in SCOPES]
        sliding = self.now - 5 * HOUR
        return [UsageQuestion(scope, self.chance.choice([*self.starts, sliding]), account) for scope, account in scopes]

    async def rows_come(self) -> None:
        name = self.chance.choice(["one", "two"])
        begin, end = self.chance.choice(
            [(self.now - 60, self.now), (self.now - 2 * DAY, self.now), (self.now, self.now + 2 * AHEAD_S)]
        )
        begin, new = max(begin, self.kept_from), []
        if begin >= end:
            return
        for _ in range(self.chance.randrange(1, 12)):
            self.seqs[name] += self.chance.choice([1, 1, 5])
            said: dict[str, Any] = {"ledger": name, "id": f"{name}-{self.seqs[name]}"}
            new.append(random_row(self.seqs[name], self.chance, begin=begin, end=end, **said))
        async with self.store.write(STEP) as tx:
            await usage_ledger.add(tx, new)

    async def sums_are_put_right(self, tally: UsageTally) -> None:
        """After rows came without their sums, and one sum was changed by hand."""
        self.seqs["two"] += 1
        at = max(self.now - self.chance.random() * DAY, self.kept_from)
        one = random_row(self.seqs["two"], self.chance, begin=at, end=at, ledger="two", id=f"two-{self.seqs['two']}")
        async with self.store.write(STEP) as tx:
            await tx.execute(ledger_table.insert().values(**one, day=hourly_rollup.day_of(at)))
            wrong = {"output_tokens": spending_table.c.output_tokens + 1}
            await tx.execute(update(spending_table).where(spending_table.c.agent == "coder0").values(**wrong))
        await look(self.store, tally, self.asked(), self.now)
        async with self.store.write(STEP) as tx:
            day = await hourly_rollup.day_before(tx, None)
            while day is not None:
                await hourly_rollup.recount(tx, day)
                day = await hourly_rollup.day_before(tx, day)
        tally.doubt()

    async def happens(self, tally: UsageTally) -> str:
        what = self.chance.choice(["rows", "rows", "rows", "time", "time", "back", "windows", "right", "gone", "sums"])
        match what:
            case "rows":
                await self.rows_come()
            case "time":
                self.now += self.chance.choice([1.0, 60.0, HOUR / 3, HOUR * 5, DAY])
            case "back":
                self.now -= self.chance.choice([0.5, 60.0, DAY])
            case "windows":
                self.starts[self.chance.randrange(len(self.starts))] = self._start()
            case "right":
                await self.sums_are_put_right(tally)
            case "gone":
                self.kept_from = max(self.kept_from, self.now - DAY)
                async with self.store.write(STEP) as tx:
                    await usage_ledger.forget(tx, self.now - DAY)
            case "sums":
                before = (self.now - 4 * DAY) // DAY * DAY
                self.kept_from = max(self.kept_from, before)
                async with self.store.write(STEP) as tx:
                    # Rows go before their sums.
                    while await usage_ledger.forget(tx, before):
                        pass
                    await hourly_rollup.forget(tx, before)
        return what


async def test_whatever_happens_it_is_what_a_look_at_everything_finds(store: Store, chance: random.Random) -> None:
    world, tally, happened = World(store, chance), UsageTally(), []
    for _ in range(70):
        happened.append(await world.happens(tally))
        asked = world.asked()
        found = await look(store, tally, asked, world.now)
        async with store.read() as tx:
            assert found == await in_full(tx, asked, world.now), happened


@pytest.fixture
def read() -> Iterator[list[str]]:
    """The statements that are read with."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def sums(read: list[str]) -> int:
    """How many of them sum something up."""
    return sum("sum(" in each for each in read)


async def test_a_second_look_reads_what_came_since_and_nothing_else(store: Store, read: list[str]) -> None:
    rows = [row(seq, ended_at=NOON - 90.0 * seq) for seq in range(1, 200)]
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, rows)
    starts = (NOON - 4 * HOUR, NOON - 1000.0, NOON - 2 * HOUR, 0.0)
    asked = [UsageQuestion("agent:coder0", at) for at in starts] + [UsageQuestion("host", at) for at in starts]
    tally = UsageTally()
    first = await look(store, tally, asked, NOON)
    assert sums(read) > 0
    read.clear()
    assert await look(store, tally, asked, NOON + 60) == first
    assert (len(read), sums(read)) == (1, 0), "whether anything came"
    late = row(200, ended_at=NOON - 1.5 * HOUR)
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, [late])
        # If anything but what is new were read, it would be less.
        await tx.execute(delete(spending_table).where(spending_table.c.hour > NOON // HOUR - 5))
        await tx.execute(update(ledger_table).where(ledger_table.c.seq < 200).values(input_tokens=0))
    read.clear()
    second = await look(store, tally, asked, NOON + 120)
    assert (len(read), sums(read)) == (2, 1)
    assert [after.requests - before.requests for before, after in zip(first, second, strict=True)] == [1, 0, 1, 1] * 2
    assert second[-1] == added_up([*rows, late])
    # From time to time everything is read, whatever nobody told of.
    assert await look(store, tally, asked, NOON + 120 + EVERY_S) != second


async def test_a_window_that_moves_along_reads_what_it_passes(store: Store, read: list[str]) -> None:
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, [row(seq, ended_at=NOON - 90.0 * seq) for seq in range(1, 200)])
    tally = UsageTally()
    (before,) = await look(store, tally, [UsageQuestion("host", NOON - 2 * HOUR)], NOON)
    async with store.write(STEP) as tx:
        # Those that it passes stay, and all others would be missed if they were read.
        kept = ledger_table.c.ended_at.between(NOON - 2 * HOUR, NOON - 2 * HOUR + 200)
        await tx.execute(delete(ledger_table).where(~kept, ledger_table.c.seq.not_in([1, 199])))
        await tx.execute(delete(spending_table).where(spending_table.c.hour >= NOON // HOUR - 1))
    read.clear()
    (after,) = await look(store, tally, [UsageQuestion("host", NOON - 2 * HOUR + 180)], NOON + 180)
    assert (before.requests, after.requests) == (80, 78)
    assert sums(read) == 1


async def test_another_register_in_its_place_is_read_anew(store: Store) -> None:
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, [row(seq, ended_at=NOON - seq % 7) for seq in range(1, 20)])
    tally, asked = UsageTally(), [UsageQuestion("host", 0.0)]
    assert (await look(store, tally, asked, NOON))[0].requests == 19
    async with store.write(STEP) as tx:
        # What a backup holds: it was made before the last ten came.
        await tx.execute(delete(ledger_table).where(ledger_table.c.seq > 9))
        await hourly_rollup.recount(tx, hourly_rollup.day_of(NOON - 3))
    assert (await look(store, tally, asked, NOON))[0].requests == 9


async def test_what_is_told_while_it_is_read_holds_for_the_next_look(store: Store) -> None:
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, [row(1)])
    tally, asked = UsageTally(), [UsageQuestion("host", 0.0)]
    tally.begin()
    async with store.read() as tx:
        kept = await tally.look(tx, NOON)
        async with store.write(STEP) as other:
            await other.execute(update(spending_table).values(requests=7))
        tally.doubt()
        assert (await kept.used(tx, asked, now=NOON))[0].requests == 1
    assert (await look(store, tally, asked, NOON))[0].requests == 7
