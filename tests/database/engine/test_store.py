"""A register writes a transaction wholly or not at all, one after the other, whichever database it is in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from core.crash_points import declare
from core.errors import RegisterError
from database.engine.store import Store, insert_once, next_place
from database.schema import audit, cursors

STEP = declare("test.step")


@pytest.fixture
async def register(register_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(register_url, tenant_id="acme", host="mill")
    yield opened
    await opened.close()


async def put(tx: AsyncConnection, name: str) -> bool:
    return await insert_once(tx, cursors, connector=name, cursor="x", updated_at=1.0)


async def count(register: Store) -> int:
    async with register.read() as tx:
        return await tx.scalar(select(func.count()).select_from(cursors)) or 0


async def write_down(tx: AsyncConnection, key: str) -> bool:
    values = {"identity": "@ana", "door": "cli", "action": "ps", "arguments": {}, "outcome": "done"}
    return await insert_once(tx, audit, key=key, at=1.0, **values)


# --- opening -----------------------------------------------------------------------------------------------------


async def test_what_was_written_is_there_after_opening_again(register: Store, register_url: str) -> None:
    async with register.write(STEP) as tx:
        await put(tx, "matrix")
    await register.close()
    again = await Store.open(register_url)
    assert await count(again) == 1
    await again.close()


async def test_rows_carry_tenant_and_host(register: Store) -> None:
    async with register.write(STEP) as tx:
        await put(tx, "matrix")
    async with register.read() as tx:
        row = (await tx.execute(select(cursors.c.tenant_id, cursors.c.host))).one()
    assert tuple(row) == ("acme", "mill")


async def test_a_closed_register_says_so(register: Store) -> None:
    await register.close()
    await register.close()
    with pytest.raises(RegisterError, match="closed"):
        async with register.read():
            pass
    with pytest.raises(RegisterError, match="closed"):
        async with register.write(STEP):
            pass


# --- writing -----------------------------------------------------------------------------------------------------


async def test_a_key_is_written_once(register: Store) -> None:
    async with register.write(STEP) as tx:
        assert await put(tx, "matrix")
        assert not await put(tx, "matrix")
    async with register.write(STEP) as tx:
        assert not await put(tx, "matrix")
    assert await count(register) == 1


async def test_a_transaction_that_fails_leaves_nothing(register: Store) -> None:
    async def fail() -> None:
        async with register.write(STEP) as tx:
            await put(tx, "matrix")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await count(register) == 0


async def test_a_transaction_that_is_cancelled_leaves_nothing_and_lets_the_next_go(register: Store) -> None:
    written = asyncio.Event()

    async def hang() -> None:
        async with register.write(STEP) as tx:
            await put(tx, "matrix")
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await written.wait()
    task.cancel()
    await asyncio.wait({task})
    async with asyncio.timeout(30), register.write(STEP) as tx:
        await put(tx, "terminal")
    assert await count(register) == 1


async def test_writers_take_turns_and_readers_wait_for_none(register: Store) -> None:
    async def add() -> None:
        async with register.write(STEP) as tx:
            before = await tx.scalar(select(func.count()).select_from(cursors))
            await put(tx, f"connector {before}")

    async with register.write(STEP) as tx:
        await put(tx, "unseen")
        writers = [asyncio.create_task(add()) for _ in range(20)]
        async with asyncio.timeout(30):
            assert await count(register) == 0
    await asyncio.gather(*writers)
    assert await count(register) == 21


async def test_a_reader_cannot_write(register: Store) -> None:
    with pytest.raises(RegisterError, match="read"):
        async with register.read() as tx:
            await put(tx, "matrix")


async def test_writers_in_two_processes_take_turns_and_see_what_the_other_wrote(
    register: Store, register_url: str
) -> None:
    other = await Store.open(register_url)

    async def count_up(store: Store) -> None:
        for _ in range(20):
            async with store.write(STEP) as tx:
                number = int(await tx.scalar(select(cursors.c.cursor)) or 0)
                await tx.execute(update(cursors).values(cursor=str(number + 1)))

    async with register.write(STEP) as tx:
        await insert_once(tx, cursors, connector="matrix", cursor="0", updated_at=1.0)
    await asyncio.gather(count_up(register), count_up(other))
    async with other.read() as tx:
        assert await tx.scalar(select(cursors.c.cursor)) == "40"
    await other.close()


async def test_numbers_of_rows_grow_in_the_order_of_the_commits(register: Store, register_url: str) -> None:
    other = await Store.open(register_url)
    order = []

    async def add(store: Store, name: str) -> None:
        for number in range(10):
            async with store.write(STEP) as tx:
                assert await write_down(tx, f"{name} {number}")
                order.append(f"{name} {number}")  # nobody else writes before this is committed

    await asyncio.gather(add(register, "one"), add(other, "other"))
    async with register.read() as tx:
        assert list((await tx.execute(select(audit.c.key).order_by(audit.c.seq))).scalars()) == order
    await other.close()


async def test_a_reader_sees_one_moment(register: Store) -> None:
    async with register.read() as before:
        assert await before.scalar(select(func.count()).select_from(cursors)) == 0
        async with register.write(STEP) as tx:
            await put(tx, "matrix")
        assert await before.scalar(select(func.count()).select_from(cursors)) == 0
    assert await count(register) == 1


async def test_a_transaction_of_which_a_statement_failed_does_not_stand_even_when_somebody_looked_away(
    register: Store,
) -> None:
    async def look_away() -> None:
        async with register.write(STEP) as tx:
            await put(tx, "matrix")
            with pytest.raises(IntegrityError):
                await tx.execute(text("UPDATE cursors SET updated_at = NULL"))

    with pytest.raises(IntegrityError):
        await look_away()
    assert await count(register) == 0
    async with register.write(STEP) as tx:
        await put(tx, "matrix")
    assert await count(register) == 1


async def test_the_first_error_of_a_transaction_is_the_one_that_is_told(register: Store) -> None:
    async def stumble_on() -> None:
        async with register.write(STEP) as tx:
            await put(tx, "matrix")
            with pytest.raises(IntegrityError):
                await tx.execute(text("UPDATE cursors SET updated_at = NULL"))
            await tx.execute(text("SELECT 1 FROM nowhere"))

    with pytest.raises(IntegrityError):
        await stumble_on()
    assert await count(register) == 0


async def test_a_statement_that_is_wrong_is_no_fault_of_the_register(register: Store) -> None:
    async with register.write(STEP) as tx:
        await put(tx, "matrix")
    with pytest.raises(IntegrityError):
        async with register.write(STEP) as tx:
            await tx.execute(text("UPDATE cursors SET updated_at = NULL"))


async def test_what_no_database_holds_is_replaced_wherever_it_stands(register: Store) -> None:
    async with register.write(STEP) as tx:
        assert await insert_once(tx, cursors, connector="a\x00b", cursor="half \ud83d", updated_at=1.0)
        assert not await put(tx, "a\x00b")
        found = (await tx.execute(select(cursors).where(cursors.c.connector == "a\x00b"))).one()
    assert (found.connector, found.cursor) == ("a\ufffdb", "half \ufffd")


async def test_json_is_kept_to_the_letter(register: Store) -> None:
    held = {"nul": "\x00", "half": "\ud83d", "order": {"b": 1, "a": [None, True, 1.5, 2**60]}, "": "\u202e"}
    async with register.write(STEP) as tx:
        await insert_once(
            tx, audit, key="k", at=1.0, identity="@ana", door="cli", action="ps", arguments=held, outcome="done"
        )
    async with register.read() as tx:
        found = await tx.scalar(select(audit.c.arguments))
    assert found == held
    assert list(found["order"]) == ["b", "a"]


async def test_text_is_ordered_byte_by_byte(register: Store) -> None:
    names = ["a", "B", "_", "z", "Z", "10", "2", "ä", "é", "\U0001d51e", "\ufb00"]
    async with register.write(STEP) as tx:
        for name in names:
            await put(tx, name)
    async with register.read() as tx:
        found = list((await tx.execute(select(cursors.c.connector).order_by(cursors.c.connector))).scalars())
    assert found == sorted(names, key=str.encode)


async def test_the_next_place_is_behind_all_others_and_given_once(register: Store) -> None:
    async with register.write(STEP) as tx:
        for number in range(3):
            await write_down(tx, f"{number}")
        place = await next_place(tx, audit.c.seq)
        await tx.execute(update(audit).where(audit.c.key == "0").values(seq=place))
        await write_down(tx, "3")
        assert list((await tx.execute(select(audit.c.key).order_by(audit.c.seq))).scalars()) == ["1", "2", "0", "3"]


async def test_a_transaction_is_done_once_when_nothing_is_in_its_way(register: Store) -> None:
    async def work(tx: AsyncConnection) -> str:
        await put(tx, "matrix")
        return "done"

    assert await register.transact(STEP, work) == "done"
    with pytest.raises(ZeroDivisionError):
        await register.transact(STEP, _fail)
    assert await count(register) == 1


async def _fail(tx: AsyncConnection) -> None:
    await put(tx, "terminal")
    raise ZeroDivisionError
