"""Whoever changes the audit in the database is found out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.crash_points import declare
from core.signing.signing_key import SigningKey
from database.engine.batched_delete import BATCH, drain
from database.engine.store import Store
from database.queries.operations import audit_anchors, audit_log
from database.queries.operations.audit_verification import AuditCheck, AuditFault
from database.schema import audit
from database.schema import audit_anchors as anchors_table

STEP = declare("tests.audit_anchors")
NOON = 1_700_000_000.0
KEY = SigningKey(b"k" * 32)
OTHER = SigningKey(b"o" * 32)


async def write(store: Store, *numbers: int, at: float | None = None) -> None:
    async with store.write(STEP) as tx:
        for number in numbers:
            await audit_log.add(
                tx,
                key=f"k{number}",
                at=NOON + number if at is None else at,
                identity="matrix:@ana:example.org",
                door="chat",
                action="launch",
                outcome="done",
                arguments={"name": f"coder{number}", "ratio": 0.1, "large": 2**60, "text": "é\u202e\x00", "none": None},
                detail=None if number % 2 else "é\x00",
            )


async def sign(store: Store, key: SigningKey = KEY, at: float = NOON) -> None:
    async with store.write(STEP) as tx:
        await audit_anchors.checkpoint(tx, key, at)


async def checked(store: Store, *keys: str) -> AuditCheck:
    async with store.read() as tx:
        check = AuditCheck(await audit_anchors.every(tx), keys or (KEY.public,))
        async for line in audit_anchors.lines(tx):
            check.line(line)
    check.end()
    return check


async def faults(store: Store) -> list[str]:
    return [f"{each.code} {each.seq}" for each in (await checked(store)).faults]


async def numbers(store: Store) -> Sequence[int]:
    async with store.read() as tx:
        return list((await tx.execute(select(audit.c.seq).order_by(audit.c.seq))).scalars())


async def test_what_muster_wrote_is_in_order(store: Store) -> None:
    assert (await checked(store)).faults == []
    await write(store, *range(5))
    await sign(store)
    await write(store, 5)
    await write(store, 5)
    check = await checked(store)
    assert (check.faults, check.lines) == ([], 6)
    async with store.read() as tx:
        assert await audit_anchors.head(tx) == check.head


async def test_every_altered_column_is_found(store: Store) -> None:
    await write(store, *range(3))
    changes = {
        "at": NOON + 0.5, "identity": "matrix:@eve:x", "through": "x", "door": "cli", "connector": "x", "key": "x",
        "conversation": "x", "action": "stop", "arguments": {"name": "coder1"}, "outcome": "refused", "detail": "x",
        "tenant_id": "x", "host": "x",
    }  # fmt: skip
    seq = (await numbers(store))[1]
    for name, value in changes.items():
        async with store.write(STEP) as tx:
            was = (await tx.execute(select(audit.c[name]).where(audit.c.seq == seq))).scalar_one()
            await tx.execute(update(audit).where(audit.c.seq == seq).values({name: value}))
        assert await faults(store) == [f"broken {seq}"], name
        async with store.write(STEP) as tx:
            await tx.execute(update(audit).where(audit.c.seq == seq).values({name: was}))
    assert await faults(store) == []


async def test_a_deleted_line_is_found_by_the_one_after(store: Store) -> None:
    await write(store, *range(4))
    seqs = await numbers(store)
    async with store.write(STEP) as tx:
        await tx.execute(delete(audit).where(audit.c.seq == seqs[1]))
    assert await faults(store) == [f"broken {seqs[2]}"]


async def test_deleted_first_lines_are_found(store: Store) -> None:
    await write(store, *range(4))
    seqs = await numbers(store)
    async with store.write(STEP) as tx:
        await tx.execute(delete(audit).where(audit.c.seq <= seqs[1]))
    assert await faults(store) == [f"broken {seqs[2]}"]


async def test_deleted_last_lines_are_found_once_they_were_signed(store: Store) -> None:
    await write(store, *range(4))
    await sign(store)
    seqs = await numbers(store)
    async with store.write(STEP) as tx:
        await tx.execute(delete(audit).where(audit.c.seq >= seqs[2]))
    assert await faults(store) == [f"anchor_missing {seqs[3]}"]
    async with store.write(STEP) as tx:
        await tx.execute(delete(audit))
    assert await faults(store) == [f"anchor_missing {seqs[3]}"]


async def test_lines_that_changed_places_are_found(store: Store) -> None:
    await write(store, *range(5))
    one, other = (await numbers(store))[1:3]
    async with store.write(STEP) as tx:
        for old, new in ((one, 10**6), (other, one), (10**6, other)):
            await tx.execute(update(audit).where(audit.c.seq == old).values(seq=new))
    assert (await faults(store))[0] == f"broken {one}"


@pytest.mark.parametrize("chain", [None, "ab" * 32, ""])
async def test_an_inserted_line_is_found(store: Store, chain: str | None) -> None:
    await write(store, *range(3))
    seqs = await numbers(store)
    async with store.write(STEP) as tx:
        await tx.execute(update(audit).where(audit.c.seq == seqs[2]).values(seq=seqs[2] + 100))
        row = (await tx.execute(select(audit).where(audit.c.seq == seqs[1]))).one()
        await tx.execute(insert(audit).values(**{**row._asdict(), "seq": seqs[2], "key": "made up", "chain": chain}))
    found = await faults(store)
    assert found[0] == f"{'unchained' if chain is None else 'broken'} {seqs[2]}"


async def test_a_chain_that_was_written_again_is_found_by_what_was_signed(store: Store) -> None:
    await write(store, *range(4))
    await sign(store)
    async with store.read() as tx:
        rows = [row._asdict() for row in await tx.execute(select(audit).order_by(audit.c.seq))]
    last = rows[-1]["seq"]
    async with store.write(STEP) as tx:
        await tx.execute(delete(audit))
    # The forger lets Muster's own code chain the lines again. Numbers are given as they were.
    async with store.write(STEP) as tx:
        saved = (await tx.execute(select(anchors_table))).all()
        await tx.execute(delete(anchors_table))
        for row in rows:
            names = ("key", "at", "identity", "door", "action", "outcome", "arguments", "detail")
            await audit_log.add(tx, **{**{name: row[name] for name in names}, "identity": "matrix:@eve:example.org"})
        await tx.execute(insert(anchors_table), [row._asdict() for row in saved])
        first = (await tx.execute(select(audit.c.seq).order_by(audit.c.seq))).scalars().first()
        assert first is not None
        shift = rows[0]["seq"] - first
        if shift:
            for seq in range(first, first + 4):
                await tx.execute(update(audit).where(audit.c.seq == seq).values(seq=seq + shift))
    assert await faults(store) == [f"anchor_missing {last}"]


async def test_signatures_of_others_do_not_count(store: Store) -> None:
    await write(store, 0)
    await sign(store, OTHER)
    found = (await checked(store)).faults
    assert [(each.code, each.key) for each in found] == [("anchor_unknown_key", OTHER.public)]
    assert (await checked(store, KEY.public, OTHER.public)).faults == []


@pytest.mark.parametrize(
    "change", [{"seq": 7}, {"at": 1.0}, {"kind": "retention"}, {"chain": "0" * 64}, {"signature": "x"}]
)
async def test_an_altered_anchor_is_found(store: Store, change: dict[str, object]) -> None:
    await write(store, *range(3))
    await sign(store)
    async with store.write(STEP) as tx:
        await tx.execute(update(anchors_table).values(change))
    assert [each.code for each in (await checked(store)).faults] == ["anchor_invalid"]


async def test_a_line_is_signed_once(store: Store) -> None:
    for _ in range(3):
        await sign(store)
    await write(store, 0)
    for _ in range(3):
        await sign(store)
    async with store.read() as tx:
        assert len(await audit_anchors.every(tx)) == 1


async def test_retention_leaves_a_signed_anchor(store: Store) -> None:
    old = BATCH + 20
    await write(store, *range(old + 5))
    await sign(store)

    async def forgotten(before: float) -> int:
        return await drain(
            store, STEP, lambda tx: audit_anchors.forget(tx, before, signer=KEY, now=NOON + 10**6)
        )  # fmt: skip

    assert await forgotten(NOON) == 0
    assert await forgotten(NOON + old) == old
    check = await checked(store)
    assert (check.faults, check.lines, check.begins_at) == ([], 5, NOON + 10**6)
    await write(store, 10_000)
    assert (await checked(store)).faults == []
    # The rest goes, too, and the next line follows it.
    assert await forgotten(NOON + 10**6) == 6
    await write(store, 10_001)
    check = await checked(store)
    assert (check.faults, check.lines) == ([], 1)
    async with store.read() as tx:
        assert [each.kind for each in await audit_anchors.every(tx)] == ["retention"]
    async with store.write(STEP) as tx:
        await tx.execute(delete(anchors_table))
    assert [each.code for each in (await checked(store)).faults] == ["broken"]


async def test_a_late_line_about_earlier_stays_until_those_before_it_may_go(store: Store) -> None:
    await write(store, 0)
    await write(store, 1, at=NOON + 100)
    await write(store, 2, at=NOON - 100)
    async with store.write(STEP) as tx:
        assert await audit_anchors.forget(tx, NOON + 50, signer=KEY, now=NOON) == 1
    assert (await checked(store)).faults == []


async def test_writers_at_the_same_time_make_one_chain(register_url: str) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    order = list(range(60))
    random.Random(seed).shuffle(order)
    stores = [await Store.open(register_url) for _ in range(3)]
    try:
        await asyncio.gather(*(write(stores[number % 3], number) for number in order))
        check = await checked(stores[0])
    finally:
        for store in stores:
            await store.close()
    assert (check.faults, check.lines) == ([], 60)


async def test_a_transaction_that_is_undone_leaves_no_gap(store: Store) -> None:
    await write(store, 0)

    async def fail(tx: AsyncConnection) -> None:
        await audit_log.add(tx, key="x", at=NOON, identity="i", door="cli", action="a", outcome="done")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await store.transact(STEP, fail)
    await write(store, 1)
    assert (await checked(store)).faults == []


async def test_many_faults_are_counted(store: Store) -> None:
    await write(store, *range(20))
    async with store.write(STEP) as tx:
        await tx.execute(update(audit).values(identity="x"))
    async with store.read() as tx:
        check = AuditCheck((), (), most=3)
        async for line in audit_anchors.lines(tx):
            check.line(line)
    assert (len(check.faults), check.more_faults) == (3, 17)
    assert isinstance(check.faults[0], AuditFault)


async def test_lines_of_an_earlier_version_are_chained_until_something_is_signed(store: Store) -> None:
    async def unchained(number: int) -> int:
        async with store.write(STEP) as tx:
            values = {
                "key": f"old{number}",
                "at": NOON,
                "identity": "i",
                "door": "cli",
                "action": "a",
                "outcome": "done",
            }
            await tx.execute(insert(audit).values(**values, arguments={"n": 1}))
            newest: int = (await tx.execute(select(audit.c.seq).order_by(audit.c.seq.desc()).limit(1))).scalar_one()
            return newest

    await write(store, 0, 1)
    await unchained(0)
    await unchained(1)
    await write(store, 2, 3)
    assert len(await faults(store)) == 2
    for number in (2, 3):
        async with store.write(STEP) as tx:
            await audit_anchors.adopt(tx)
        assert await faults(store) == []
        await write(store, 10 + number)
        assert await faults(store) == []
    await sign(store)
    late = await unchained(4)
    async with store.write(STEP) as tx:
        await audit_anchors.adopt(tx)
    assert await faults(store) == [f"unchained {late}"]


async def test_the_newest_line_of_a_time_is_found(store: Store) -> None:
    async with store.read() as tx:
        assert await audit_anchors.head_at(tx, NOON) is None
    await write(store, 1)
    async with store.read() as tx:
        first = await audit_anchors.head(tx)
    await write(store, 2)
    async with store.read() as tx:
        assert await audit_anchors.head_at(tx, NOON + 0.5) is None
        assert await audit_anchors.head_at(tx, NOON + 1.5) == first
        assert await audit_anchors.head_at(tx, NOON + 2) == await audit_anchors.head(tx)
