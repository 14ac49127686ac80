"""What was metered is in the register once, and its sums are the sums of its rows."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from core.crash_points import declare
from database.engine.store import Store
from database.queries.spending import limits_by_command, quota_history, usage_ledger
from database.queries.spending.limits_by_command import BudgetRow
from database.queries.spending.usage_ledger import TOKENS, Copied
from tests.database.queries.rows import DAY, NOON, row

STEP = declare("tests.ledger")


async def test_rows_are_there_once_however_often_they_come(store: Store) -> None:
    for last in (2, 3):
        async with store.write(STEP) as tx:
            await usage_ledger.add(tx, [row(seq) for seq in range(1, last + 1)])
            await usage_ledger.move(tx, Copied(ledger="one", entries=last), NOON)
    async with store.read() as tx:
        assert (await usage_ledger.spent(tx, by=None, since=NOON))[0].requests == 3
        assert await usage_ledger.copied(tx, "one") == Copied(ledger="one", entries=3)
        assert await usage_ledger.copied(tx, "other") == Copied(ledger="other")


async def test_sums_are_those_of_the_rows_by_every_key(store: Store) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    rows = [
        row(
            seq,
            agent=chance.choice(["coder0", "coder1"]),
            role=chance.choice(["coder", "research"]),
            task=chance.choice([None, "t1"]),
            account=chance.choice(["main", "spare"]),
            model=chance.choice([None, "opus", "haiku"]),
            reported=chance.random() < 0.8,
            ended_at=NOON + chance.choice([-2, 0, 1]) * DAY,
            usd=chance.choice([None, 0.25, 0.5, 1.0]),
            **{kind: chance.randrange(2**33) for kind in TOKENS},
        )
        for seq in range(1, 60)
    ]
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, rows)
    within = [each for each in rows if each["ended_at"] >= NOON - DAY]
    days = {-2 * DAY: "2024-10-02", 0.0: "2024-10-04", DAY: "2024-10-05"}
    keys: tuple[usage_ledger.Key, ...] = ("agent", "role", "task", "account", "model", "day")
    for by in keys:
        groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for each in within:
            groups[days[each["ended_at"] - NOON] if by == "day" else each[by]].append(each)
        async with store.read() as tx:
            found = {each.key: each for each in await usage_ledger.spent(tx, by=by, since=NOON - DAY)}
        assert found.keys() == groups.keys()
        for key, members in groups.items():
            assert found[key].requests == len(members)
            assert {kind: getattr(found[key], kind) for kind in TOKENS} == {
                kind: sum(each[kind] for each in members) for kind in TOKENS
            }
            priced = None if None in [each["usd"] for each in members] else sum(each["usd"] for each in members)
            assert found[key].usd == priced
            assert found[key].estimated == sum(not each["reported"] for each in members)
    async with store.read() as tx:
        assert await usage_ledger.tokens_by_agent(tx, since=NOON - DAY) == {
            name: sum(each[kind] for kind in TOKENS for each in within if each["agent"] == name)
            for name in ("coder0", "coder1")
        }


async def test_a_failed_request_that_cost_nothing_is_no_estimate(store: Store) -> None:
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, [row(1, reported=False, status=529, ended="error", **dict.fromkeys(TOKENS, 0))])
        await usage_ledger.add(tx, [row(2, reported=False, ended="cut")])
    async with store.read() as tx:
        (found,) = await usage_ledger.spent(tx, by=None, since=0)
    assert (found.requests, found.estimated) == (2, 1)


async def test_nothing_spent_is_no_row(store: Store) -> None:
    async with store.read() as tx:
        assert await usage_ledger.spent(tx, by=None, since=0) == []
        assert await usage_ledger.spent(tx, by="agent", since=0) == []
        assert await usage_ledger.tokens_by_agent(tx, since=0) == {}


async def test_the_newest_word_on_a_quota_is_kept(store: Store) -> None:
    def seen(at: float, used: float | None) -> dict[str, Any]:
        return {
            "account": "main", "window": "5h", "provider": "anthropic", "seen_at": at, "used": used, "amount": None,
            "remaining": None, "reset_at": NOON + DAY, "window_s": 18_000.0, "status": "allowed",
        }  # fmt: skip

    async with store.write(STEP) as tx:
        for said in (seen(NOON, 0.25), seen(NOON + 2, 0.5), seen(NOON + 1, 0.75)):
            await usage_ledger.observe(tx, said)
    async with store.read() as tx:
        assert [(each.used, each.seen_at) for each in await usage_ledger.quotas(tx)] == [(0.5, NOON + 2)]


async def test_a_limit_takes_the_place_of_the_one_it_is_like(store: Store) -> None:
    def limit(amount: float, window: str = "day") -> BudgetRow:
        return BudgetRow(
            scope="host", unit="tokens", window=window, amount=amount, policy="cutoff", set_by="@ana", set_at=NOON
        )

    async with store.write(STEP) as tx:
        for each in (limit(1), limit(2), limit(3, "week")):
            await limits_by_command.put(tx, each)
    async with store.read() as tx:
        assert await limits_by_command.every(tx) == [limit(2), limit(3, "week")]
    async with store.write(STEP) as tx:
        assert await limits_by_command.clear(tx, "host") == 2
        assert await limits_by_command.clear(tx, "host") == 0


async def test_of_an_account_so_many_windows_are_kept_and_what_is_known_goes_on(store: Store) -> None:
    def of(window: str, at: float) -> dict[str, Any]:
        return {
            "account": "main", "window": window, "provider": "anthropic", "seen_at": at, "used": 0.5, "amount": None,
            "remaining": None, "reset_at": None, "window_s": None, "status": None,
        }  # fmt: skip

    async def kept() -> set[str]:
        async with store.read() as tx:
            return {each.window for each in await usage_ledger.quotas(tx)}

    most = quota_history.WINDOWS
    async with store.write(STEP) as tx:
        assert await usage_ledger.observe(tx, of("7d", NOON))
        taken = [await usage_ledger.observe(tx, of(f"made-up-{number}", NOON + number)) for number in range(most * 2)]
        assert taken.count(True) == most - 1
        assert await usage_ledger.observe(tx, of("7d", NOON + 1000) | {"used": 0.6}), "what is known is seen anew"
    assert len(await kept()) == most
    later = NOON + 1000 + quota_history.STALE_S
    async with store.write(STEP) as tx:
        assert await usage_ledger.observe(tx, of("5h", later)), "what was not seen for long makes room"
    assert await kept() == {"7d", "5h"}
