"""What nobody needs is deleted in steps, and its room is given back to the disk."""

from __future__ import annotations

import contextlib
import sqlite3
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from core import sqlite_vacuum
from core.crash_points import declare
from core.signing.signing_key import SigningKey
from database.engine import batched_delete
from database.engine.batched_delete import BATCH
from database.engine.store import Store
from database.queries.operations import audit_anchors
from database.queries.spending import hourly_rollup
from database.queries.spending.hourly_sums_reader import HOUR
from database.schema import audit as lines
from database.schema import spending

KEY = SigningKey(b"k" * 32)
STEP = declare("test.shrinking")


async def fill(store: Store, count: int, *, detail: str = "") -> None:
    """Write so many lines of the audit, one a second."""
    async with store.write(STEP) as tx:
        for first in range(0, count, 1000):
            rows = [
                {"key": f"k{number}", "at": float(number), "identity": "a", "door": "cli", "action": "x",
                 "arguments": {}, "outcome": "done", "detail": detail}
                for number in range(first, min(first + 1000, count))
            ]  # fmt: skip
            await tx.execute(insert(lines), rows)


async def test_old_lines_go_in_transactions_of_one_batch_each(store: Store) -> None:
    await fill(store, 2 * BATCH + 30)
    gone: list[int] = []

    async def forget(tx: AsyncConnection) -> int:
        gone.append(await audit_anchors.forget(tx, 2 * BATCH + 10.0, signer=KEY, now=0.0))
        return gone[-1]

    assert await batched_delete.drain(store, STEP, forget) == 2 * BATCH + 10
    assert gone == [BATCH, BATCH, 10]
    async with store.read() as tx:
        assert await tx.scalar(select(func.min(lines.c.at))) == 2 * BATCH + 10
        assert await tx.scalar(select(func.count()).select_from(lines)) == 20


async def test_rows_whose_key_has_several_columns_go_likewise(store: Store) -> None:
    counts = {
        each.name: 0 for each in spending.columns if each.type.python_type in (int, float) and not each.primary_key
    }
    words = {each.name: "" for each in spending.primary_key if each.name != "hour"}
    async with store.write(STEP) as tx:
        rows = [{**counts, **words, "hour": hour} for hour in range(BATCH + 5)]
        await tx.execute(insert(spending), rows)
    async with store.write(STEP) as tx:
        before = float((BATCH + 2) * HOUR)
        assert [await hourly_rollup.forget(tx, before) for _ in range(3)] == [BATCH, 2, 0]


async def test_the_file_of_a_register_shrinks_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_vacuum, "PAGES", 100)
    monkeypatch.setattr(sqlite_vacuum, "SPARE", 50)
    file = tmp_path / "register.db"
    store = await Store.open(f"sqlite:///{file}")
    await fill(store, 400, detail="x" * 8000)
    before = _pages(file)
    await batched_delete.drain(store, STEP, partial(audit_anchors.forget, before=390.0, signer=KEY, now=0.0))
    assert _pages(file) == before, "what is deleted is only free"
    steps = 1
    while await store.shrink():
        steps += 1
    await store.close()
    assert 5 <= steps <= 20, "nobody waits for all of it"
    assert _pages(file) < before / 2
    assert file.stat().st_size == _pages(file) * 4096, "when the log is taken into it"


async def test_the_file_of_an_older_version_shrinks_once_it_was_opened(tmp_path: Path) -> None:
    file = tmp_path / "register.db"
    store = await Store.open(f"sqlite:///{file}")
    await fill(store, 100)
    await store.close()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    store = await Store.open(f"sqlite:///{file}")
    async with store.read() as tx:
        assert await tx.scalar(select(func.count()).select_from(lines)) == 100
    await store.close()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_cannot_be_written_anew_now_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "old.db"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert not sqlite_vacuum.convert(connection, file), "somebody writes"
        monkeypatch.setattr(sqlite_vacuum, "MOST_BYTES", 1)
        assert not sqlite_vacuum.convert(connection, file), "it is too large"
        monkeypatch.undo()
        assert sqlite_vacuum.convert(connection, file)
        assert not sqlite_vacuum.convert(connection, file), "once is enough"


def _pages(file: Path) -> int:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("PRAGMA page_count").fetchone()[0])
