"""The driver with one change of threads per statement."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from core.crash_points import declare
from database.engine import sqlite_driver
from database.engine.store import Store, upsert
from database.schema import cursors

STEP = declare("test.along")


@asynccontextmanager
async def opened(file: Path) -> AsyncIterator[sqlite_driver.SqliteConnection]:
    connection = await sqlite_driver.connect(file, timeout=0.1)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_statement_brings_its_rows_and_counts(tmp_path: Path) -> None:
    async with opened(tmp_path / "x.db") as connection:
        cursor = connection.cursor()
        await cursor.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        assert not cursor.description
        await cursor.executemany("INSERT INTO t (b) VALUES (?)", [("one",), ("two",)])
        assert cursor.rowcount == 2
        await cursor.execute("INSERT INTO t (b) VALUES (?) RETURNING a", ("three",))
        assert (await cursor.fetchall(), cursor.rowcount, cursor.lastrowid) == ([(3,)], 1, 3)
        await cursor.execute("SELECT b FROM t ORDER BY a")
        assert [column[0] for column in cursor.description] == ["b"]
        assert await cursor.fetchall() == [("one",), ("two",), ("three",)]
        assert await cursor.fetchall() == []


async def test_a_wrong_statement_is_the_databases_own_error_and_leaves_the_connection_usable(tmp_path: Path) -> None:
    async with opened(tmp_path / "x.db") as connection:
        cursor = connection.cursor()
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            await cursor.execute("SELECT * FROM nowhere")
        await cursor.execute("SELECT 1")
        assert await cursor.fetchall() == [(1,)]


async def test_a_reader_that_is_cancelled_holds_nothing_open(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    async with opened(file) as reader, opened(file) as writer:
        await (await writer.execute("PRAGMA journal_mode = WAL")).close()
        await (await writer.execute("CREATE TABLE t (a)")).close()
        reading = asyncio.create_task(reader.cursor().execute("SELECT * FROM t"))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await reader.commit()  # its turn comes after what was cancelled
        checkpoint = await writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert await checkpoint.fetchone() == (0, 0, 0)
        await checkpoint.close()


async def test_a_transaction_begins_with_its_first_statement(tmp_path: Path) -> None:
    async with opened(tmp_path / "x.db") as one, opened(tmp_path / "x.db") as other:
        one.begin("BEGIN IMMEDIATE")
        await one.commit()
        cursor = one.cursor()
        one.begin("BEGIN IMMEDIATE")
        await cursor.execute("CREATE TABLE t (a)")
        other.begin("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await other.cursor().execute("SELECT 1")
        await one.rollback()
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await cursor.execute("SELECT * FROM t")


@pytest.fixture
async def errands(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the threads of connections answered."""
    done: list[object] = []
    loop = asyncio.get_running_loop()
    answer = loop.call_soon_threadsafe

    def counted(*given: Any, **named: Any) -> Any:
        done.append(given)
        return answer(*given, **named)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    return done


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    async with store.read() as tx, store.read() as other, store.write(STEP) as writing:
        for each in (tx, other, writing):
            await each.execute(select(cursors))
    yield store
    await store.close()


async def test_a_snapshot_with_one_statement_takes_two_errands(store: Store, errands: list[object]) -> None:
    errands.clear()
    async with store.read() as tx:
        assert (await tx.execute(select(cursors))).all() == []
    assert len(errands) == len(["BEGIN, SELECT", "ROLLBACK"])


async def test_statements_that_need_no_snapshot_are_one_errand_each(store: Store, errands: list[object]) -> None:
    errands.clear()
    async with store.read(snapshot=False) as tx:
        await tx.execute(select(cursors))
        await tx.execute(select(cursors))
    assert len(errands) == len(["SELECT", "SELECT"])
    async with store.read() as tx, store.read(snapshot=False) as other:
        first = (await tx.execute(select(cursors))).all()
        async with store.write(STEP) as writing:
            await upsert(writing, cursors, connector="one", cursor="1", updated_at=0.0)
        assert (await tx.execute(select(cursors))).all() == first, "a snapshot stays as it was"
        assert len((await other.execute(select(cursors))).all()) == 1


async def test_what_nobody_needs_the_result_of_goes_along_with_the_commit(store: Store, errands: list[object]) -> None:
    errands.clear()
    async with store.write(STEP) as tx:
        await upsert(tx, cursors, connector="one", cursor="1", updated_at=0.0)
        await upsert(tx, cursors, connector="two", cursor="2", updated_at=0.0)
    assert len(errands) == len(["BEGIN, INSERT, INSERT, COMMIT"])
    async with store.write(STEP) as tx:
        await upsert(tx, cursors, connector="one", cursor="3", updated_at=0.0)
        found = (await tx.execute(select(cursors.c.cursor).order_by(cursors.c.connector))).scalars().all()
    assert found == ["3", "2"], "a statement sees what was done before it"


async def test_what_goes_along_and_is_wrong_leaves_nothing_of_its_transaction(store: Store) -> None:
    async def wrong(tx: AsyncConnection) -> None:
        await upsert(tx, cursors, connector="one", cursor="1", updated_at=0.0)
        await sqlite_driver.execute_along(tx, insert(cursors), {"connector": None, "cursor": "1", "updated_at": 0})

    async def undone(tx: AsyncConnection) -> None:
        await upsert(tx, cursors, connector="two", cursor="1", updated_at=0.0)
        raise ZeroDivisionError

    with pytest.raises(IntegrityError):
        await store.transact(STEP, wrong)
    with pytest.raises(ZeroDivisionError):
        await store.transact(STEP, undone)
    async with store.write(STEP) as tx:
        await upsert(tx, cursors, connector="three", cursor="1", updated_at=0.0)
    async with store.read() as tx:
        assert (await tx.execute(select(cursors.c.connector))).scalars().all() == ["three"]
