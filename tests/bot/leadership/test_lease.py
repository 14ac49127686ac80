"""A register has one orchestrator, wherever it runs."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bot.leadership import lease as tenure
from bot.leadership.lease import LeadershipLost, RegisterInUse
from bot.leadership.standby import move
from core.errors import RegisterError, RegisterFenced
from database.engine import postgres as database_server
from database.engine.store import Store
from database.queries.operations import leases, watchdog_findings
from database.queries.operations.leases import Lease
from database.queries.operations.watchdog_findings import FindingRow
from tests.bot.orchestrator import house
from tests.postgres import Postgres

HERE, THERE = Path("/state/here"), Path("/state/there")


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def postgres_url(postgres: Postgres, emptied_database: str) -> str:
    """The address of an empty register on a server."""
    return postgres.url(emptied_database)


async def _runs_out(store: Store, clock: Clock) -> None:
    """The lease's time is over: in a file by our clock, on a server by its own."""
    clock.now += tenure.DURATION + 1
    if store.is_shared:
        async with store.read() as tx:
            lease = await leases.find(tx, tenure.NAME)
        assert lease is not None
        fence, store.fence = store.fence, None
        async with store.write(tenure.HOLD) as tx:
            await leases.release(tx, lease, now=await tenure.time_of(tx, store, clock) - 1)
        store.fence = fence


async def test_another_installation_is_told_who_has_the_register_and_gets_it_afterwards(register_url: str) -> None:
    clock = Clock()
    first, second = await Store.open(register_url), await Store.open(register_url)
    rest = "(19|20)" if first.is_shared else "60"
    says = rf"process {os.getpid()} on .*, whose state is in {HERE}.* in {rest} s"
    async with tenure.held(first, HERE, clock):
        with pytest.raises(RegisterInUse, match=says):
            async with tenure.held(second, THERE, clock):
                pass
    async with tenure.held(second, THERE, clock):
        pass
    await first.close()
    await second.close()


async def test_whose_orchestrator_was_killed_has_it_back_at_once_and_others_when_it_ran_out(register_url: str) -> None:
    clock = Clock()
    store = await Store.open(register_url)
    killed = tenure.held(store, HERE, clock)
    await killed.__aenter__()
    store.fence = None  # as in the process that comes after it
    again = tenure.held(store, HERE, clock)
    await again.__aenter__()
    await _runs_out(store, clock)
    store.fence = None
    async with tenure.held(store, THERE, clock):
        pass
    await store.close()


async def test_who_was_away_for_so_long_that_another_took_it_ends(
    register_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "RENEW", 0.01)
    monkeypatch.setattr(tenure, "SHARED_RENEW", 0.01)
    clock = Clock()
    store, other = await Store.open(register_url), await Store.open(register_url)
    async with tenure.held(store, HERE, clock) as lead:
        before = lead.lease.until
        keeping = asyncio.create_task(tenure.keep(store, lead, clock))
        clock.now += tenure.DURATION - 1
        async with asyncio.timeout(20):
            while lead.lease.until == before:
                await asyncio.wait({keeping}, timeout=0.01)
        keeping.cancel()
        await asyncio.wait({keeping})
        await _runs_out(store, clock)
        async with tenure.held(other, THERE, clock):
            with pytest.raises(LeadershipLost, match=rf"whose state is in {THERE} leads .*stop one of them"):
                await tenure.keep(store, lead, clock)
    await store.close()
    await other.close()


async def test_who_does_not_lead_any_more_writes_nothing_and_knows_when_it_might_not(postgres_url: str) -> None:
    clock = Clock()
    store, other = await Store.open(postgres_url), await Store.open(postgres_url)
    row = FindingRow(key="k", kind="silent", agent=None, cause="", event="e", found_at=0.0, told_at=0.0)
    async with tenure.held(store, HERE, clock):
        async with store.write(tenure.HOLD) as tx:
            await watchdog_findings.put(tx, [row])
        assert store.in_time()
        fence = store.fence
        assert fence is not None
        fence.good_until = fence.steady()
        assert not store.in_time(), "as when it was stopped for longer than the lease lasts"
        async with store.write(tenure.HOLD) as tx:
            await watchdog_findings.forget(tx, ["k"])  # nobody else has it yet
        await _runs_out(store, clock)
        async with tenure.held(other, THERE, clock):
            for _ in range(2):
                with pytest.raises(RegisterFenced, match="Another Muster now leads"):
                    async with store.write(tenure.HOLD) as tx:
                        await watchdog_findings.put(tx, [row])
            assert fence.lost.is_set()
            async with other.read() as tx:
                assert await watchdog_findings.every(tx) == []
    await store.close()
    await other.close()


async def test_a_writer_that_is_stopped_in_the_middle_holds_nobody_up_and_commits_nothing(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_server, "REST_LIMIT", 0.3)
    clock = Clock()
    store, other = await Store.open(postgres_url), await Store.open(postgres_url)
    row = FindingRow(key="k", kind="silent", agent=None, cause="", event="e", found_at=0.0, told_at=0.0)
    lead = tenure.held(store, HERE, clock)
    await lead.__aenter__()
    await _runs_out(store, clock)

    async def rest() -> None:
        async with store.write(tenure.HOLD) as tx:
            await watchdog_findings.put(tx, [row])
            # It rests with its turn in hand; the server gives it up, and the other one has its turn.
            async with tenure.held(other, THERE, clock):
                pass

    async with asyncio.timeout(20):
        with pytest.raises(RegisterError):
            await rest()
    async with other.read() as tx:
        assert await watchdog_findings.every(tx) == []
    await store.close()
    await other.close()


def test_who_stands_by_leads_when_it_may_and_ends_only_who_is_silent_in_its_own_place() -> None:
    lease = Lease(name=tenure.NAME, owner="process 1", token=3, acquired_at=0.0, until=100.0)
    let_go = replace(lease, until=tenure.LET_GO)
    for now, ours, locked, follows in [
        (99.0, False, False, "wait"),
        (100.0, False, False, "lead"),
        (99.0, True, False, "lead"),  # killed: its lock is free
        (99.0, True, True, "wait"),
        (100.0, True, True, "end"),  # stopped: it holds its lock and is silent
        (100.0, False, True, "wait"),  # somebody of ours is just starting
    ]:
        assert move(lease, now, ours=ours, locked=locked) == follows, (now, ours, locked)
    # The server was away for longer than any lease: its leader is to have it again, and is not ended.
    assert move(lease, 200.0, ours=False, locked=False, watched=False) == "wait"
    assert move(lease, 200.0, ours=True, locked=True, watched=False) == "wait"
    assert move(lease, 200.0, ours=True, locked=False, watched=False) == "lead"
    assert move(let_go, 1.0, ours=False, locked=False, watched=False) == "lead"
    assert move(None, 0.0, ours=False, locked=False) == "lead"
    assert move(let_go, 0.0, ours=True, locked=True) == "wait", "it is about to end"
    assert move(let_go, 1.0, ours=False, locked=False) == "lead"


async def test_a_second_orchestrator_on_a_register_leaves_the_agents_of_the_first_alone(tmp_path: Path) -> None:
    async with house(tmp_path / "a") as first, house(tmp_path / "b") as second, first.open():
        await first.launch("coder0")
        await first.heard_from("coder0")
        register = first.paths.state / "register.db"
        second.paths.muster_yaml.write_text(
            second.paths.muster_yaml.read_text() + f"register:\n  url: sqlite:///{register}\n"
        )
        with pytest.raises(RegisterInUse, match="in use by process"):
            async with second.open():
                pass
        assert "idle" in await first.ask("!ps")
