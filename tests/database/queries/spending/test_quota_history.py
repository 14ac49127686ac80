"""What is known of a window over time is enough to learn from, and bounded however much a provider says."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from core.crash_points import declare
from database.engine.store import Store
from database.queries.spending import quota_history, usage_ledger
from database.queries.spending.usage_queries import Sums
from database.schema import quota_history as table
from tests.database.queries.rows import DAY, NOON, row

STEP = declare("tests.quota_history")
RESET = NOON + 3 * DAY


def seen(at: float, used: float | None, **said: Any) -> dict[str, Any]:
    plain = {
        "account": "main", "window": "7d", "provider": "anthropic", "seen_at": NOON + at, "used": used, "amount": None,
        "remaining": None, "reset_at": RESET, "window_s": 7 * DAY, "status": "allowed",
    }  # fmt: skip
    return plain | said


def weigh(sums: Sums) -> float:
    return sums.input_tokens + 0.5 * sums.output_tokens


async def record(store: Store, *said: dict[str, Any]) -> list[bool]:
    async with store.write(STEP) as tx:
        return [await quota_history.record(tx, each, weigh) for each in said]


async def kept(store: Store, window: str = "7d") -> list[tuple[float, float | None, float]]:
    async with store.read() as tx:
        query = select(table.c.seen_at, table.c.used, table.c.tokens).where(table.c.window == window)
        return [(row[0] - NOON, row[1], row[2]) for row in await tx.execute(query.order_by(table.c.seq))]


async def test_what_says_nothing_new_is_not_written_again(store: Store) -> None:
    said = [
        (True, seen(0, 0.10)),
        (False, seen(0, 0.50)),
        (False, seen(10, 0.104)),
        (True, seen(20, 0.106)),
        (False, seen(-5, 0.9)),
        (False, seen(30, 0.106, reset_at=RESET + 30)),
        (True, seen(40, 0.106, reset_at=RESET + 3600)),
        (True, seen(50, 0.106, status="allowed_warning", reset_at=RESET + 3600)),
        (True, seen(60, 0.05, status="allowed_warning", reset_at=RESET + 3600)),
        (True, seen(70, None, status="allowed_warning", reset_at=RESET + 3600)),
        (True, seen(80, None, status="allowed_warning", reset_at=RESET + 3600, window_s=5 * 3600.0)),
        (False, seen(379, None, status="allowed_warning", reset_at=RESET + 3600, window_s=5 * 3600.0)),
        (True, seen(380, None, status="allowed_warning", reset_at=RESET + 3600, window_s=5 * 3600.0)),
    ]
    assert await record(store, *(each for _, each in said)) == [news for news, _ in said]


async def test_limits_on_the_rate_of_requests_are_no_windows(store: Store) -> None:
    rate = {"window": "requests", "amount": 50.0, "remaining": 49.0, "window_s": None}
    daily = {"window": "requests", "amount": 50.0, "remaining": 49.0, "window_s": None}
    assert await record(
        store,
        seen(0, 0.02, **rate, reset_at=NOON + 60),
        seen(1, 0.02, **rate, reset_at=None),
        seen(2, 0.02, window="1m", window_s=60.0),
        seen(3, 0.02, window="unified", window_s=None, reset_at=None),
        seen(4, 0.02, **daily, reset_at=NOON + 8 * 3600),
    ) == [False, False, False, True, True]


async def test_a_clock_that_was_ahead_does_not_silence_what_is_seen_after_it_was_set(store: Store) -> None:
    async with store.write(STEP) as tx:
        for said in (seen(365 * DAY, 0.9), seen(0, 0.2)):
            await usage_ledger.observe(tx, said, now=NOON)
            assert await quota_history.record(tx, said, weigh, now=NOON)
        assert not await quota_history.record(tx, seen(10, 0.2), weigh, now=NOON + 10)
        # Of machines whose clocks differ by seconds, the later is the newer.
        await usage_ledger.observe(tx, seen(-5, 0.3), now=NOON - 5)
        assert [each.used for each in await usage_ledger.quotas(tx)] == [0.2]


async def test_names_that_a_provider_thinks_of_are_not_kept_without_end(store: Store) -> None:
    said = [seen(at, 0.1, window=f"7d_{at}") for at in range(quota_history.WINDOWS + 10)]
    assert sum(await record(store, *said)) == quota_history.WINDOWS
    assert await record(store, seen(0, 0.1, account="spare"), seen(99, 0.5, window="7d_0")) == [True, True]


async def test_between_two_observations_stands_what_the_account_used(store: Store) -> None:
    async with store.write(STEP) as tx:
        for seq, (at, account) in enumerate([(-50, "main"), (5, "main"), (6, "spare"), (15, "main"), (20, "main")], 1):
            tokens = {"input_tokens": 100 * seq, "output_tokens": 2}
            await usage_ledger.add(tx, [row(seq, ended_at=NOON + at, account=account, **tokens)])
    assert all(await record(store, seen(0, 0.1), seen(10, 0.2), seen(20, 0.3), seen(30, 0.4)))
    # What ended when something was seen counts towards the next.
    assert await kept(store) == [(0, 0.1, 0.0), (10, 0.2, 201.0), (20, 0.3, 602.0), (30, 0.4, 1103.0)]


async def test_old_ones_go_and_of_too_many_the_oldest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await record(store, *(seen(at, at / 100) for at in range(10)), seen(0, 0.5, window="5h"))
    async with store.write(STEP) as tx:
        assert await quota_history.forget(tx, NOON + 2) == 3
        monkeypatch.setattr(quota_history, "MOST", 3)
        assert await quota_history.forget(tx, NOON) == 5
        assert await quota_history.forget(tx, NOON) == 0
    assert [at for at, *_ in await kept(store)] == [7, 8, 9]
    # What is learned from goes on from what stands.
    assert await record(store, seen(10, 0.2)) == [True]
