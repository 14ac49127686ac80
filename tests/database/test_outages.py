"""A server that is away is missed at once and found again, and what others write at the same time undoes nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.backoff import pause
from core.crash_points import declare
from core.errors import RegisterAway, RegisterConflict
from database.engine import postgres_connection, store
from database.engine.store import Store, insert_once
from database.schema import cursors
from tests.postgres import Postgres
from tests.waiting import until

STEP = declare("test.outage")


@pytest.fixture
async def register(server: Postgres, emptied_database: str) -> AsyncIterator[Store]:
    opened = await Store.open(server.url(emptied_database))
    async with opened.write(STEP) as tx:
        await put(tx, "first")
    yield opened
    await opened.close()


async def put(tx: AsyncConnection, name: str) -> bool:
    return await insert_once(tx, cursors, connector=name, cursor="0", updated_at=1.0)


async def names(register: Store) -> list[str]:
    async with register.read() as tx:
        return list((await tx.execute(select(cursors.c.connector).order_by(cursors.c.connector))).scalars())


async def back(register: Store) -> None:
    async with asyncio.timeout(30):
        await register.returned.wait()


# --- away, and back ----------------------------------------------------------------------------------------------


async def test_a_server_that_was_killed_is_missed_and_used_again_when_it_is_back(
    server: Postgres, register: Store
) -> None:
    server.kill()
    with pytest.raises(RegisterAway, match=r"does not answer: .*\. Start PostgreSQL.*nothing is lost"):
        await names(register)
    for _ in range(3):
        with pytest.raises(RegisterAway, match=r"away since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"):
            async with register.write(STEP) as tx:
                await put(tx, "never")
    await server.started()
    await back(register)
    async with register.write(STEP) as tx:
        await put(tx, "second")
    assert await names(register) == ["first", "second"]


async def test_a_transaction_in_which_the_server_dies_leaves_nothing(server: Postgres, register: Store) -> None:
    async def die() -> None:
        async with register.write(STEP) as tx:
            await put(tx, "never")
            server.kill()
            await put(tx, "never either")

    with pytest.raises(RegisterAway):
        await die()
    await server.started()
    await back(register)
    assert await names(register) == ["first"]


async def test_a_server_that_dies_before_the_commit_leaves_nothing(server: Postgres, register: Store) -> None:
    async def die() -> None:
        async with register.write(STEP) as tx:
            await put(tx, "never")
            server.kill()

    with pytest.raises(RegisterAway):
        await die()
    await server.started()
    await back(register)
    assert await names(register) == ["first"]


async def test_a_restart_while_nobody_used_it_is_not_noticed(server: Postgres, register: Store) -> None:
    assert await names(register) == ["first"]
    server.stop()
    await server.started()
    async with register.write(STEP) as tx:
        await put(tx, "second")
    assert await names(register) == ["first", "second"]
    assert not register.returned.is_set()


async def test_a_server_that_hangs_is_given_up_and_used_again(
    server: Postgres, emptied_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_connection, "ANSWER_LIMIT", 0.3)
    monkeypatch.setattr(postgres_connection, "CONNECT_LIMIT", 0.5)
    register = await Store.open(server.url(emptied_database))
    server.freeze()
    try:
        with pytest.raises(RegisterAway, match="no answer within"):
            await names(register)
    finally:
        server.freeze(thaw=True)
    await back(register)
    assert await names(register) == []
    await register.close()


async def test_a_database_that_was_replaced_meanwhile_is_not_used(
    server: Postgres, register: Store, emptied_database: str, postgres_template: str
) -> None:
    server.kill()
    with pytest.raises(RegisterAway):
        await names(register)
    await server.started(port="5433")  # where Muster does not look
    await server.drop(emptied_database)
    await server.execute("postgres", f"CREATE DATABASE {emptied_database} TEMPLATE {postgres_template}")
    server.stop()
    await server.started()
    async with asyncio.timeout(30):
        while True:
            with pytest.raises(RegisterAway) as refusal:
                await names(register)
            if "was replaced while Muster was running" in str(refusal.value):
                break
            await asyncio.sleep(0.05)
    assert not register.returned.is_set()


async def test_who_waits_for_the_server_goes_on_when_it_is_back(server: Postgres, register: Store) -> None:
    server.kill()
    with pytest.raises(RegisterAway):
        await names(register)
    waiting = asyncio.create_task(register.rest(3600.0))
    await server.started()
    async with asyncio.timeout(30):
        await waiting
    assert await names(register) == ["first"]


async def test_a_register_can_be_closed_while_its_server_is_away(server: Postgres, register: Store) -> None:
    server.kill()
    with pytest.raises(RegisterAway):
        await names(register)
    async with asyncio.timeout(10):
        await register.close()


# --- what others write -------------------------------------------------------------------------------------------


async def count_up(tx: AsyncConnection) -> int:
    """Read a number and write the next."""
    number = int(await tx.scalar(select(cursors.c.cursor).where(cursors.c.connector == "first")) or 0) + 1
    await tx.execute(update(cursors).where(cursors.c.connector == "first").values(cursor=str(number)))
    return number


class Intruder:
    """A program that is no Muster and waits for no turn."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.times = 0

    async def count_up(self) -> None:
        await self.connection.execute("UPDATE cursors SET cursor = (cursor::int + 1)::text WHERE connector = 'first'")
        self.times += 1


@pytest.fixture
async def intruder(server: Postgres, emptied_database: str) -> AsyncIterator[Intruder]:
    connection = await server.connect(emptied_database)
    yield Intruder(connection)
    await connection.close()


async def test_what_another_program_writes_in_between_is_not_overwritten(register: Store, intruder: Intruder) -> None:
    async def work(tx: AsyncConnection) -> None:
        await tx.scalar(select(func.count()).select_from(cursors))
        if intruder.times < 3:
            await intruder.count_up()
        await count_up(tx)

    await register.transact(STEP, work)
    async with register.read() as tx:
        assert await tx.scalar(select(cursors.c.cursor)) == "4"


async def test_a_block_cannot_be_done_anew_and_says_that_it_was_undone(register: Store, intruder: Intruder) -> None:
    async def collide() -> None:
        async with register.write(STEP) as tx:
            await put(tx, "never")
            await intruder.count_up()
            await count_up(tx)

    with pytest.raises(RegisterConflict, match="Nothing of it stands; try it again"):
        await collide()
    assert await names(register) == ["first"]


async def test_who_always_loses_is_told_in_the_end(
    register: Store, intruder: Intruder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LONGEST_PAUSE", 0.001)
    calls = itertools.count()

    async def work(tx: AsyncConnection) -> None:
        next(calls)
        await tx.scalar(select(func.count()).select_from(cursors))
        await intruder.count_up()
        await count_up(tx)

    with pytest.raises(RegisterConflict):
        await register.transact(STEP, work)
    assert next(calls) == store.TRIES


async def test_a_deadlock_is_undone_and_done_anew(server: Postgres, register: Store, intruder: Intruder) -> None:
    async with register.write(STEP) as tx:
        await put(tx, "second")
    # Of the two that wait for each other, the server undoes the one whose patience ends first: ours.
    await intruder.connection.execute("SET deadlock_timeout = '60s'")
    tries = 0
    theirs: asyncio.Task[Any] | None = None

    async def work(tx: AsyncConnection) -> None:
        nonlocal tries, theirs
        tries += 1
        await tx.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
        await tx.execute(update(cursors).where(cursors.c.connector == "first").values(cursor="ours"))
        if theirs is None:
            transaction = intruder.connection.transaction()
            await transaction.start()
            await intruder.connection.execute("UPDATE cursors SET cursor = 'theirs' WHERE connector = 'second'")
            change = "UPDATE cursors SET updated_at = 2 WHERE connector = 'first'; COMMIT"
            theirs = asyncio.create_task(intruder.connection.execute(change))
            await blocked(server, intruder)
        await tx.execute(update(cursors).where(cursors.c.connector == "second").values(cursor="ours"))

    async with asyncio.timeout(30):
        await register.transact(STEP, work)
    assert theirs is not None
    await theirs
    assert tries > 1
    async with register.read() as tx:
        rows = (await tx.execute(select(cursors.c.cursor, cursors.c.updated_at).order_by(cursors.c.connector))).all()
    assert [tuple(row) for row in rows] == [("ours", 2.0), ("ours", 1.0)]


async def blocked(server: Postgres, intruder: Intruder) -> None:
    """Wait until another program's statement waits for a lock."""
    pid = intruder.connection.get_server_pid()
    admin = await server.connect("postgres")
    await until(lambda: admin.fetchval("SELECT cardinality(pg_blocking_pids($1))", pid), limit=10)
    await admin.close()


# --- pauses ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_bounded_whatever_chance_says(failures: int, chance: float) -> None:
    seconds = pause(failures, first=0.1, longest=5.0, rng=lambda: chance)
    assert 0.05 <= seconds <= 5.0


def test_pauses_grow_and_differ() -> None:
    grown = [pause(failures, first=0.1, longest=5.0, rng=lambda: 0.0) for failures in range(1, 9)]
    assert grown == sorted(grown)
    assert grown[0] == 0.05
    assert grown[-1] == 2.5
    assert pause(3, first=0.1, longest=5.0, rng=lambda: 0.9) > pause(3, first=0.1, longest=5.0, rng=lambda: 0.1)
