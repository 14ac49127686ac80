"""The driver with one change of threads per statement."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from database.engine import sqlite_driver
from database.engine.store import Store
from database.schema import cursors


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


async def test_a_snapshot_with_one_statement_takes_two_errands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    async with store.read() as tx:
        await tx.execute(select(cursors))
    errands = 0
    loop = asyncio.get_running_loop()
    answer = loop.call_soon_threadsafe

    def counted(*given: Any, **named: Any) -> Any:
        """What the connection's thread answers."""
        nonlocal errands
        errands += 1
        return answer(*given, **named)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    async with store.read() as tx:
        assert (await tx.execute(select(cursors))).all() == []
    assert errands == len(["BEGIN, SELECT", "ROLLBACK"])
    await store.close()
