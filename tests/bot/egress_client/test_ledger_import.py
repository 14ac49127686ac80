"""The register gets the ledger's rows in order and once, whatever fails in between, and no gap goes unnoticed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.egress_client import ledger_import
from bot.egress_client.ledger_import import LedgerImport, Page, page_of
from budget.tokens import Tokens
from core.errors import MusterError, RegisterError
from database.engine.store import Store
from database.queries.operations import audit_log
from database.queries.spending import hourly_rollup, usage_queries
from database.queries.spending import usage_ledger as ledger
from database.queries.spending.usage_ledger import Copied
from database.schema import ledger as metering
from database.schema import quota_history
from egress.ledger.model import EXCESS, Action, LedgerEntry, Observation
from tests.crash.deaths import die_at

NOW = 1_800_000_000.0


def entry(seq: int) -> LedgerEntry:
    return LedgerEntry(
        seq=seq, id=f"e{seq}", tenant_id="default", host="here", agent="coder0", launch_id="l", role="coder",
        profile="none", session="s", turn="t", task=None, account="main", provider="anthropic", api="anthropic",
        model_asked="opus", model="opus", attempt=1, tokens=Tokens(input=seq, output=1), reported=True,
        raw={"input_tokens": seq}, status=200, ended="completed", detail=None, started_at=NOW, ended_at=NOW + seq,
        first_byte_s=0.1, total_s=0.2, usd=0.01,
    )  # fmt: skip


def action(seq: int) -> Action:
    return Action(seq=seq, id=f"a{seq}", at=NOW, agent="coder0", action="cutoff", cause="c", by="ana", result="denied")


def seen(seq: int) -> tuple[int, Observation]:
    return seq, Observation(account="main", provider="anthropic", window="5h", seen_at=NOW + seq, used=seq / 100)


@dataclass
class Ledger:
    """What the egress would answer."""

    id: str = "one"
    entries: list[LedgerEntry] = field(default_factory=list)
    observations: list[tuple[int, Observation]] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    limit: int = 7
    away: bool = False

    async def __call__(self, after: Copied, *, limit: int, wait_s: float) -> Page:
        if self.away:
            raise MusterError("nobody answers")
        return Page(
            ledger=self.id,
            entries=[each for each in self.entries if each.seq > after.entries][: self.limit],
            observations=[each for each in self.observations if each[0] > after.observations][: self.limit],
            actions=[each for each in self.actions if each.seq > after.actions][: self.limit],
        )


@dataclass
class Desk:
    store: Store
    ledger: Ledger
    told: list[int] = field(default_factory=list)

    def copier(self) -> LedgerImport:
        """A new one, as after a restart."""

        async def told(tx: AsyncConnection, key: str, action: Action) -> None:
            self.told.append(action.seq)

        return LedgerImport(store=self.store, pages=self.ledger, clock=lambda: NOW, redact=str, told=told)

    async def seqs(self) -> list[int]:
        async with self.store.read() as tx:
            found = await ledger.spent(tx, by=None, since=0)
            copied = await ledger.copied(tx, self.ledger.id)
        assert not found or found[0].input_tokens == sum(range(1, found[0].requests + 1))
        return [found[0].requests if found else 0, copied.entries]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    yield Desk(store, Ledger())
    await store.close()


async def test_every_row_comes_once_whatever_fails_in_between(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    move = ledger.move

    async def failing(tx: AsyncConnection, position: Copied, now: float) -> None:
        await move(tx, position, now)
        if chance.random() < 0.3:
            raise RegisterError("the disk is full")

    monkeypatch.setattr(ledger, "move", failing)
    copier = desk.copier()
    for _ in range(60):
        for _ in range(chance.randrange(6)):
            desk.ledger.entries.append(entry(len(desk.ledger.entries) + 1))
        if chance.random() < 0.3:
            desk.ledger.actions.append(action(len(desk.ledger.actions) + 1))
            desk.ledger.observations = [seen(chance.randrange(1, 99))]
        desk.ledger.limit = chance.randrange(1, 9)
        desk.ledger.away = chance.random() < 0.2
        if chance.random() < 0.2:
            copier = desk.copier()
        try:
            await copier.copy()
        except MusterError:
            copier = desk.copier()
    monkeypatch.setattr(ledger, "move", move)
    desk.ledger.away = False
    copier = desk.copier()
    while await copier.copy():
        pass
    assert await desk.seqs() == [len(desk.ledger.entries)] * 2
    async with desk.store.read() as tx:
        rows = await audit_log.since(tx, 0, limit=1000)
    assert [row.action for row in rows] == ["cutoff"] * len(desk.ledger.actions)
    assert sorted(set(desk.told)) == [each.seq for each in desk.ledger.actions]


async def test_what_a_provider_said_stands_beside_all_that_was_used_before(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_import, "PAGE", 4)
    desk.ledger.limit = 4
    copier = desk.copier()
    desk.ledger.observations = [seen(1)]
    await copier.copy()
    # More was used than one page holds; what is said of the quota comes with the first, and is known at once.
    desk.ledger.entries = [entry(seq) for seq in range(1, 11)]
    desk.ledger.observations = [(2, replace(seen(2)[1], used=0.5, seen_at=NOW + 9.5))]
    await copier.copy()
    async with desk.store.read() as tx:
        assert [each.used for each in await ledger.quotas(tx)] == [0.5]
    while await copier.copy():
        pass
    async with desk.store.read() as tx:
        rows = (await tx.execute(select(quota_history.c.used, quota_history.c.tokens))).all()
    # Each came to its number of tokens and one; the tenth ended after that was seen.
    assert [tuple(row) for row in rows] == [(0.01, 0.0), (0.5, sum(seq + 1 for seq in range(1, 10)))]


@pytest.mark.parametrize("place", ["outlet.copied.before", "outlet.copied.after"])
def test_killed_at_this_place_what_was_used_counts_once(tmp_path: Path, place: str) -> None:
    async def copy() -> tuple[int, int]:
        store = await Store.open(f"sqlite:///{tmp_path}/register.db")
        desk = Desk(store, Ledger(entries=[entry(seq) for seq in range(1, 20)]))
        while await desk.copier().copy():
            pass
        async with store.read() as tx:
            assert await hourly_rollup.verify(tx) == []
            found = await usage_queries.used(tx, "all", 0.0)
        await store.close()
        return found.requests, found.input_tokens

    for _ in range(2):
        die_at(place, lambda: asyncio.run(copy()))
    assert asyncio.run(copy()) == (19, sum(range(1, 20)))


async def test_a_gap_is_written_down_and_does_not_stop_what_follows(desk: Desk) -> None:
    desk.ledger.entries = [entry(1), entry(2), entry(5), entry(6)]
    desk.ledger.actions = [action(3)]
    await desk.copier().copy()
    async with desk.store.read() as tx:
        rows = await audit_log.since(tx, 0, limit=10)
        assert (await ledger.copied(tx, "one")).entries == 6
    gaps = [row.arguments for row in rows if row.action == "ledger-gap"]
    assert gaps == [{"kind": "requests", "first": 3, "last": 4}, {"kind": "actions", "first": 1, "last": 2}]


async def test_windows_without_bound_are_left_out_and_that_is_logged_once(desk: Desk) -> None:
    desk.ledger.limit = 100
    desk.ledger.observations = [
        (seq, Observation(account="main", provider="anthropic", window=f"w{seq}", seen_at=NOW + seq, used=0.1))
        for seq in range(1, 81)
    ]
    with structlog.testing.capture_logs() as logs:
        assert await desk.copier().copy()
    assert [each["event"] for each in logs].count("quota.too_many_windows") == 1
    async with desk.store.read() as tx:
        shown = {row.window for row in await ledger.quotas(tx)}
        paced = set((await tx.scalars(select(quota_history.c.window))).all())
    assert shown == paced == {f"w{seq}" for seq in range(1, 33)}


async def test_another_ledger_is_copied_from_its_own_beginning(desk: Desk) -> None:
    desk.ledger.entries = [entry(1), entry(2)]
    copier = desk.copier()
    await copier.copy()
    desk.ledger.id = "two"
    desk.ledger.entries = []
    desk.ledger.actions = [action(1)]
    await copier.copy()
    assert desk.told == [1]
    async with desk.store.read() as tx:
        assert (await ledger.copied(tx, "one")).entries == 2
        assert await ledger.copied(tx, "two") == Copied(ledger="two", actions=1)
        assert not [row for row in await audit_log.since(tx, 0, limit=10) if row.action == "ledger-gap"]


def test_what_a_newer_egress_says_besides_is_left_out() -> None:
    def plain(kind: Any) -> dict[str, Any]:
        return {name: getattr(kind, name) for name in kind.__dataclass_fields__} | {"mood": "good"}

    tokens = {"tokens": {**plain(Tokens(input=3)), "video": 1}}
    page = page_of(
        {
            "ledger": "one",
            "entries": [{**plain(entry(1)), **tokens}],
            "observations": [{"seq": 4, **plain(seen(4)[1])}],
            "actions": [plain(action(2))],
        }
    )
    assert page.entries[0].tokens == Tokens(input=3)
    assert page.observations == [seen(4)]
    assert page.actions == [action(2)]


async def test_which_limit_a_request_may_pass_that_runs_alone_is_known_afterwards(desk: Desk) -> None:
    limit = {"kind": "allowance", "scope": "host", "unit": "tokens", "window": "day"}
    desk.ledger.actions = [
        replace(action(1), action=EXCESS, detail={**limit, "excess": 5, "request": "r1"}),
        action(2),
    ]
    await desk.copier().copy()
    async with desk.store.read() as tx:
        (found,) = await audit_log.of_action(tx, EXCESS, 0, limit=10)
        assert await audit_log.of_action(tx, EXCESS, found.at + 1, limit=10) == []
    assert found.arguments == {"agent": desk.ledger.actions[0].agent, **limit, "scope": "agent"}


async def test_of_an_error_the_register_has_the_type_alone_whatever_an_egress_of_before_says(desk: Desk) -> None:
    said = [None, "rate_limit_error", "authentication_error: sk-of-the-account is not known"]
    desk.ledger.entries = [replace(entry(seq), detail=detail, status=401) for seq, detail in enumerate(said, 1)]
    while await desk.copier().copy():
        pass
    async with desk.store.read() as tx:
        found = await tx.execute(select(metering.c.status, metering.c.detail).order_by(metering.c.seq))
        assert [tuple(row) for row in found] == [(401, None), (401, "rate_limit_error"), (401, "other_error")]
