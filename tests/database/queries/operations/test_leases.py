"""A name has one holder at a time, the second is told who, and who was away too long is kept from writing."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from core.crash_points import declare
from database.engine.store import Store
from database.queries.operations import leases
from database.queries.operations.leases import Lease, LeaseHeld, LeaseLost, confirmed, granted

STEP = declare("test.lease")
MILL, FORGE = "process 4711 on mill", "process 12 on forge"
NOON = 1_700_000_000.0


async def acquire(store: Store, owner: str, *, now: float = NOON, duration: float = 60.0) -> Lease:
    async with store.write(STEP) as tx:
        return await leases.acquire(tx, "coder0", owner, now=now, duration=duration)


async def renew(store: Store, lease: Lease, *, now: float, duration: float = 60.0) -> Lease:
    async with store.write(STEP) as tx:
        return await leases.renew(tx, lease, now=now, duration=duration)


async def check(store: Store, lease: Lease) -> None:
    async with store.write(STEP) as tx:
        await leases.check(tx, lease)


async def release(store: Store, lease: Lease, *, now: float) -> bool:
    async with store.write(STEP) as tx:
        return await leases.release(tx, lease, now=now)


# --- decisions ---------------------------------------------------------------------------------------------------


def test_the_second_is_told_who_holds_it_and_until_when() -> None:
    held = granted(None, name="coder0", owner=MILL, now=NOON, duration=60.0)
    with pytest.raises(LeaseHeld) as caught:
        granted(held, name="coder0", owner=FORGE, now=NOON + 20.0, duration=60.0)
    assert str(caught.value) == (
        "coder0 is held by process 4711 on mill until 2023-11-14 22:14:20 UTC, in 40 s. "
        "Wait until then, or end its holder."
    )
    assert caught.value.lease == held


def test_it_is_free_from_the_moment_on_until_which_it_was_held() -> None:
    held = granted(None, name="coder0", owner=MILL, now=NOON, duration=60.0)
    assert granted(held, name="coder0", owner=FORGE, now=NOON + 60.0, duration=60.0).owner == FORGE


def test_tokens_only_grow_also_for_the_same_owner() -> None:
    lease = None
    tokens = []
    for owner, now in ((MILL, 0.0), (MILL, 1.0), (FORGE, 100.0), (MILL, 200.0)):
        lease = granted(lease, name="coder0", owner=owner, now=now, duration=60.0)
        tokens.append(lease.token)
    assert tokens == [1, 2, 3, 4]


def test_a_lease_of_no_length_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="longer"):
        granted(None, name="coder0", owner=MILL, now=NOON, duration=0.0)


def test_whoever_lost_it_is_told_who_has_it() -> None:
    mine = granted(None, name="coder0", owner=MILL, now=NOON, duration=60.0)
    theirs = granted(mine, name="coder0", owner=FORGE, now=NOON + 61.0, duration=60.0)
    with pytest.raises(LeaseLost, match=r"4711 on mill does not hold coder0 .* 12 on forge acquired it"):
        confirmed(theirs, mine)
    with pytest.raises(LeaseLost, match="not in the register"):
        confirmed(None, mine)


# --- in the register ---------------------------------------------------------------------------------------------


async def test_one_of_many_that_want_it_at_once_gets_it(store: Store) -> None:
    desired_states = [acquire(store, f"process {number} on mill") for number in range(8)]
    outcomes = await asyncio.gather(*desired_states, return_exceptions=True)
    (got,) = [outcome for outcome in outcomes if isinstance(outcome, Lease)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, LeaseHeld)]
    assert {each.lease for each in refused} == {got}
    assert len(refused) == 7


async def test_a_renewed_lease_keeps_its_token_and_lasts_longer(store: Store) -> None:
    lease = await acquire(store, MILL)
    renewed = await renew(store, lease, now=NOON + 50.0)
    assert (renewed.token, renewed.until) == (lease.token, NOON + 110.0)
    with pytest.raises(LeaseHeld):
        await acquire(store, FORGE, now=NOON + 100.0)


async def test_a_late_renewal_holds_when_nobody_was_faster(store: Store) -> None:
    lease = await acquire(store, MILL)
    await renew(store, lease, now=NOON + 500.0)
    await check(store, lease)


async def test_who_was_away_too_long_can_neither_renew_nor_write(store: Store) -> None:
    mine = await acquire(store, MILL)
    theirs = await acquire(store, FORGE, now=NOON + 61.0)
    for attempt in (renew(store, mine, now=NOON + 62.0), check(store, mine)):
        with pytest.raises(LeaseLost, match="process 12 on forge"):
            await attempt
    assert not await release(store, mine, now=NOON + 62.0)
    await check(store, theirs)


async def test_a_released_name_is_free_at_once_and_its_tokens_go_on(store: Store) -> None:
    lease = await acquire(store, MILL)
    assert await release(store, lease, now=NOON + 1.0)
    async with store.read() as tx:
        left = await leases.find(tx, "coder0")
    assert left is not None
    assert left.until == NOON + 1.0
    assert (await acquire(store, FORGE, now=NOON + 1.0)).token == lease.token + 1


async def test_names_do_not_touch_each_other(store: Store) -> None:
    async with store.write(STEP) as tx:
        held = [
            await leases.acquire(tx, name, owner, now=NOON, duration=60.0)
            for name, owner in itertools.product(("coder0", "coder1"), (MILL,))
        ]
    assert [(lease.name, lease.token) for lease in held] == [("coder0", 1), ("coder1", 1)]
