"""A fleet moves from one database to another with all that it knows, or stays where it is."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Float, Insert, Integer, Table, func, insert, null, select
from sqlalchemy.types import UserDefinedType

from core.crash_points import declare
from core.errors import RegisterError
from database.engine import database_copy
from database.engine.database_copy import RegisterPlace, copy
from database.engine.store import Store
from database.queries.operations import audit_log as audits
from database.schema import audit, inbox, metadata, outbox
from tests.crash.deaths import ended
from tests.postgres import Postgres

STEP = declare("test.copy")

#: More than two pages.
PAGE, ROWS = 50, 123


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_copy, "PAGE", PAGE)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'register.db'}"


@pytest.fixture
def server(postgres: Postgres, emptied_database: str) -> str:
    return postgres.url(emptied_database)


@pytest.fixture
def empty_server(postgres: Postgres) -> Iterator[str]:
    name = asyncio.run(postgres.database())
    yield postgres.url(name)
    asyncio.run(postgres.drop(name))


def rows_of(table: Table, count: int) -> list[dict[str, Any]]:
    """Rows with something in every column, of every kind that it takes."""
    texts = itertools.cycle(["plain", "\u202eüñ\U0001f600", "", 'it\'s "quoted"', "a\nb"])
    objects = itertools.cycle([{"b": 1, "a": [None, True, 1.5]}, [], {"nul": "\x00", "half": "\ud83d"}, "text", 7])
    unique = {column.name for index in table.indexes if index.unique for column in index.columns}
    made = []
    for number in range(count):
        row: dict[str, Any] = {}
        for column in table.c:
            if column.nullable and number % 3 == 0:
                row[column.key] = null()
            elif column.primary_key or column.unique or column.name in {"event_id", "key", *unique}:
                row[column.key] = number + 1 if isinstance(column.type, Integer) else f"{column.name} {number:05}"
            elif isinstance(column.type, Boolean):
                row[column.key] = number % 2 == 0
            elif isinstance(column.type, Float):
                row[column.key] = 1_700_000_000.123456 + number / 7
            elif isinstance(column.type, Integer):
                row[column.key] = number
            else:
                row[column.key] = next(objects if column.type.__class__.__name__ == "JSON" else texts)
        made.append(row)
    return made


async def fill(url: str) -> None:
    store = await Store.open(url)
    async with store.write(STEP) as tx:
        for table in metadata.sorted_tables:
            for row in rows_of(table, ROWS if table is outbox else 7):
                await tx.execute(insert(table).values(**row))
    await store.close()


async def content(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows, JSON as it is read, and whether it is null or not there."""
    store = await Store.open(url)
    found = {}
    async with store.read() as tx:
        for table in metadata.sorted_tables:
            there = [column.is_not(None) for column in table.c]
            query = select(*table.c, *there).order_by(*table.primary_key)
            found[table.name] = [tuple(row) for row in await tx.execute(query)]
    await store.close()
    return found


async def count(url: str) -> int:
    return sum(len(rows) for rows in (await content(url)).values())


# --- moving ------------------------------------------------------------------------------------------------------


async def test_a_fleet_moves_to_a_server_and_back_with_all_that_it_knows(
    file: str, empty_server: str, tmp_path: Path
) -> None:
    await fill(file)
    before = await content(file)
    seen: list[tuple[str, int, int]] = []
    copied = await copy(
        RegisterPlace(url=file), RegisterPlace(url=empty_server), progress=lambda *said: seen.append(said)
    )
    assert {table.name: table.rows for table in copied} == {name: len(rows) for name, rows in before.items()}
    assert [said for said in seen if said[0] == "outbox"] == [
        ("outbox", 0, ROWS),
        ("outbox", PAGE, ROWS),
        ("outbox", 2 * PAGE, ROWS),
        ("outbox", ROWS, ROWS),
    ]
    assert await content(empty_server) == before
    assert await content(file) == before

    back = f"sqlite:///{tmp_path / 'back.db'}"
    assert await copy(RegisterPlace(url=empty_server), RegisterPlace(url=back)) == copied
    assert await content(back) == before


async def test_new_rows_come_behind_those_that_were_copied(file: str, server: str) -> None:
    await fill(file)
    await copy(RegisterPlace(url=file), RegisterPlace(url=server))
    store = await Store.open(server)
    async with store.write(STEP) as tx:
        last = await tx.scalar(select(func.max(audit.c.seq)))
        assert await audits.add(
            tx, key="new", at=1.0, identity="@ana", door="cli", action="ps", outcome="done", arguments={}
        )
        assert await tx.scalar(select(audit.c.seq).where(audit.c.key == "new")) == (last or 0) + 1
    await store.close()


async def test_an_empty_register_is_copied_too(file: str, server: str) -> None:
    await (await Store.open(file)).close()
    assert {table.rows for table in await copy(RegisterPlace(url=file), RegisterPlace(url=server))} == {0}


# --- refusing ----------------------------------------------------------------------------------------------------


async def refused(source: str, target: str, *words: str) -> None:
    with pytest.raises(RegisterError) as caught:
        await copy(RegisterPlace(url=source), RegisterPlace(url=target))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.slow
async def test_a_register_that_is_in_use_is_neither_copied_nor_written_to(
    file: str, server: str, tmp_path: Path
) -> None:
    await fill(file)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    for url in (file, server):
        running = await Store.open(url)
        async with running.read() as tx:
            await tx.scalar(select(func.count()).select_from(inbox))
        await refused(url, other, "is open in another process", "muster down")
        await running.close()
    running = await Store.open(server, host="mill")
    await refused(file, server, "is open in another process: muster mill/", "muster down")
    await running.close()
    assert not (tmp_path / "other.db").exists()
    assert await count(server) == 0


async def test_nobody_opens_a_register_that_is_being_copied(register_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("database.engine.sqlite.BUSY_TIMEOUT_MS", 10)
    alone = await Store.open(register_url, alone=True)
    with pytest.raises(RegisterError, match=r"locked by another program|is being copied"):
        await Store.open(register_url)
    await alone.close()
    await (await Store.open(register_url)).close()


async def test_a_target_that_is_not_empty_is_refused_and_left_alone(file: str, server: str) -> None:
    await fill(file)
    await fill(server)
    before = await content(server)
    await refused(file, server, "is not empty", "Name a database in which no register is yet")
    assert await content(server) == before


async def test_a_source_that_is_not_there_is_refused_and_not_made(tmp_path: Path, server: str) -> None:
    await refused(f"sqlite:///{tmp_path / 'none.db'}", server, "none.db does not exist")
    assert not (tmp_path / "none.db").exists()


async def test_a_register_is_not_copied_to_itself(file: str) -> None:
    await refused(file, file, "to itself")


# --- all or nothing ----------------------------------------------------------------------------------------------


async def test_a_row_that_the_target_cannot_hold_leaves_nothing(file: str, server: str, tmp_path: Path) -> None:
    await fill(file)
    with closing(sqlite3.connect(tmp_path / "register.db")) as database:
        database.execute("UPDATE outbox SET priority = 99999999999 WHERE seq = 120")
        database.commit()
    await refused(file, server, "cannot hold a row of outbox", "Nothing was copied")
    assert await count(server) == 0


async def test_what_is_read_back_must_be_what_was_written(
    server: str, tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(server)

    def faulty(table: Table) -> Insert:
        if table.name == outbox.name:
            table.c.detail.type = _Shouts()
        return insert(table)

    monkeypatch.setattr("database.engine.database_copy.insert", faulty)
    await refused(server, file, "does not hold what was written to it", "of outbox")
    assert not (tmp_path / "register.db").exists()


class _Shouts(UserDefinedType[str]):
    """Changes what is written through it."""

    cache_ok = False

    def get_col_spec(self, **_: Any) -> str:
        return "JSON"

    def bind_processor(self, dialect: object) -> Any:
        return lambda value: value and value.upper()


@pytest.mark.slow
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("way", ["there", "back"])
async def test_killed_at_this_place_all_was_copied_or_nothing(file: str, server: str, way: str, side: str) -> None:
    source, target = (file, server) if way == "there" else (server, file)
    await fill(source)
    place = f"{database_copy.COPY}.{side}"
    died = await ended(copy, RegisterPlace(url=source), RegisterPlace(url=target), place=place)
    assert died == -signal.SIGKILL
    if side == "before":
        assert await count(target) == 0
        await copy(RegisterPlace(url=source), RegisterPlace(url=target))
    assert await count(target) == await count(source)
