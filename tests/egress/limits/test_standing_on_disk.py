"""Without an egress, its ledger says of each limit what the egress said last."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from egress.ledger.reader_on_disk import LedgerOnDisk
from egress.ledger.schema import LedgerUnusable
from egress.limits.standing_on_disk import limits_on_disk
from egress.settings import EgressSettings, LimitSettings
from tests.egress.ledger.rows import Clock
from tests.egress.limits.gate import House, allowance, asked, completed, house, pool

LIMITS = (
    pool(5_000_000, "host", window="day"),
    pool(4_000_000, "role:coder"),
    pool(3_000_000, "account:main", window="5h"),
    pool(2_000_000, "provider:openai", window="week"),
    pool(40, "host", unit="usd"),
    pool(900_000, "role:coder", account="spare"),
    pool(800_000, "account:nobodys"),
    allowance(700_000, "host"),
    allowance(600_000, "profile:base", window="day"),
    allowance(500_000, "agent:coder1", window="day"),
)


def counts(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], Any]:
    """What is used, by limit and by whom."""
    return {
        (each["kind"], each["scope"], each["account"], each["unit"], each["window"], each["agent"]): each["used"]
        for each in rows
    }


def on_disk(folder: Path, limits: tuple[LimitSettings, ...], now: float) -> list[dict[str, Any]]:
    with LedgerOnDisk.open(folder / "ledger.db") as ledger:
        return limits_on_disk(EgressSettings(host="attic", limits=limits), ledger.agents(), ledger.used_since, now)


async def use(home: House, dice: random.Random) -> None:
    provider, account = dice.choice([("anthropic", "main"), ("openai", "spare")])
    agent, read = f"coder{dice.randrange(2)}", dice.randrange(1, 100)
    model = "claude-sonnet-4-5" if provider == "anthropic" else "gpt-5"
    lease = await home.gate.admit(asked(agent, provider=provider, account=account, model=model))
    await lease.settle(completed(read, dice.randrange(1, 100), model=model))


async def test_the_ledger_says_what_the_egress_said(tmp_path: Path) -> None:
    seed = int(os.environ.get("MUSTER_SEED") or random.randrange(2**32))
    print(f"MUSTER_SEED={seed}")
    dice, clock = random.Random(seed), Clock()
    for _ in range(2):
        async with house(tmp_path, *LIMITS, clock=clock) as home:
            for _ in range(30):
                clock.now += dice.choice((1.0, 400.0, 4_000.0, 40_000.0))
                await use(home, dice)
            said = counts(home.gate.standing()["limits"])
            # While it runs, not all is in the sums.
            running = counts(on_disk(tmp_path, LIMITS, clock.now))
            assert {key: running[key] for key in said} == said
        found = on_disk(tmp_path, LIMITS, clock.now)
        assert {key: used for key, used in counts(found).items() if key in said} == said
        (more,) = counts(found).keys() - said.keys()
        assert more[1] == "account:nobodys", "of a pool that no agent draws on"
        assert {each["reserved"] for each in found} == {None}


async def test_a_new_window_begins_with_nothing_used(tmp_path: Path) -> None:
    clock = Clock()
    async with house(tmp_path, pool(50_000, window="day"), clock=clock) as home:
        await home.use()
        before = home.limit()
    (row,) = on_disk(tmp_path, (pool(50_000, window="day"),), clock.now)
    assert (row["used"], row["state"], row["reset_at"]) == (before["used"], "open", before["reset_at"])
    (row,) = on_disk(tmp_path, (pool(50_000, window="day"),), before["reset_at"])
    assert row["used"] == 0


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    for content in (None, b"", b"no database at all, but text" * 100):
        if content is not None:
            (tmp_path / "ledger.db").write_bytes(content)
        with pytest.raises(LedgerUnusable, match=r"ledger\.db"):
            on_disk(tmp_path, (), 0.0)
