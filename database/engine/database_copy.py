"""A register's move to another database: all of its rows, or none.

Both registers are open here alone while it goes on. What was written is read back in the same transaction, and stands
only if there are as many rows of each table as there were, and their checksum is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Column, MetaData, Table, Text, cast, func, insert, literal, select, tuple_
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import UserDefinedType

from core.crash_points import declare
from core.errors import RegisterError
from database.engine import dsn as addresses
from database.engine.store import Store
from database.schema import metadata
from database.schema.text_types import storable

COPY = declare("register.copy")

#: Rows that are on their way at one time.
PAGE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisterPlace:
    """A register, and what lets us in."""

    url: str
    password: Callable[[], str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CopiedTable:
    name: str
    rows: int
    #: SHA-256, summed over the rows: the order in which a database gives them does not matter.
    checksum: str


async def copy(
    source: RegisterPlace, target: RegisterPlace, *, progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[CopiedTable]:
    """Copy every row of one register into another that has none.

    Args:
        source: what is copied; it stays as it is.
        target: made where there is nothing yet. When the copying fails it is as it was.
        progress: told of each table how many of its rows exist already, and of how many.

    Raises:
        RegisterError: one of them cannot be used or is in use, the target is not empty, or what was written is not what
            was read.
    """
    here, there = addresses.parse(source.url), addresses.parse(target.url)
    if here == there:
        raise RegisterError(f"{here} cannot be copied to itself. Name another database.")
    if isinstance(here, addresses.FileAddress) and not here.file.exists():
        raise RegisterError(f"{here.file} does not exist. Name the register that is to be copied.")
    made = isinstance(there, addresses.FileAddress) and not there.file.exists()
    done = False
    old = await Store.open(source.url, password=source.password, alone=True)
    try:
        new = await Store.open(target.url, password=target.password, alone=True)
        try:
            async with old.read() as reading, new.write(COPY) as writing:
                copied = await copy_rows(reading, writing, new.place, progress)
            done = True
        finally:
            await new.close()
            if made and not done and isinstance(there, addresses.FileAddress):
                for suffix in ("", "-wal", "-shm"):
                    there.file.with_name(there.file.name + suffix).unlink(missing_ok=True)
    finally:
        await old.close()
    return copied


async def snapshot(
    source: Store, file: Path, *, progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[CopiedTable]:
    """Copy every row of an open register, as it is at this moment, into a new file that is a register, too.

    Raises:
        RegisterError: it cannot be read, or the file not be written; what there is of it is the caller's to remove.
    """
    new = await Store.open(f"sqlite:///{file}", alone=True)
    try:
        async with source.read() as reading, new.write(COPY) as writing:
            return await copy_rows(reading, writing, new.place, progress)
    finally:
        await new.close()


async def copy_rows(
    reading: AsyncConnection, writing: AsyncConnection, place: str, progress: Callable[[str, int, int], None]
) -> list[CopiedTable]:
    """Copy every row in the transaction `writing`, which the caller commits, and read them back.

    Raises:
        RegisterError: `place` is not empty, or does not hold what was written to it.
    """
    for table in metadata.sorted_tables:
        if await writing.scalar(select(select(table).exists())):
            raise RegisterError(
                f"{place} is not empty: there are rows in {table.name}. Name a database in which no register is yet."
            )
    copied = []
    for table in metadata.sorted_tables:
        total, rows, checksum = await reading.scalar(select(func.count()).select_from(table)) or 0, 0, 0
        progress(table.name, 0, total)
        async for page in _pages(reading, table):
            try:
                await writing.execute(insert(_plain(table)), page)
            except StatementError as error:
                raise RegisterError(
                    f"{place} cannot hold a row of {table.name}: {error.orig}. Nothing was copied."
                ) from error
            rows, checksum = rows + len(page), _added(checksum, page)
            progress(table.name, rows, total)
        await _go_on_counting(writing, table)
        there_rows, there_checksum = 0, 0
        async for page in _pages(writing, table):
            there_rows, there_checksum = there_rows + len(page), _added(there_checksum, page)
        if (rows, checksum) != (there_rows, there_checksum) or rows != total:
            raise RegisterError(
                f"{place} does not hold what was written to it: {there_rows} of {total} rows of {table.name}, with the "
                f"checksum {there_checksum:064x} instead of {checksum:064x}. Nothing was copied."
            )
        copied.append(CopiedTable(name=table.name, rows=rows, checksum=f"{checksum:064x}"))
    return copied


async def _pages(tx: AsyncConnection, table: Table) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield all rows in the order of the key, as they go over the wire: JSON is the text that it was stored as."""
    key = list(table.primary_key)
    columns = [cast(column, Text).label(column.name) if isinstance(column.type, JSON) else column for column in table.c]
    query = select(*columns).order_by(*key).limit(PAGE)
    after: Sequence[Any] = ()
    while True:
        where = [tuple_(*key) > tuple_(*(literal(v, c.type) for v, c in zip(after, key, strict=True)))] if after else []
        found = (await tx.execute(query.where(*where))).all()
        if found:
            yield [{name: _value(value) for name, value in row._mapping.items()} for row in found]
        if len(found) < PAGE:
            return
        after = [found[-1]._mapping[column.name] for column in key]


def _value(value: Any) -> Any:
    # What an SQLite file may hold from before it was replaced on the way in.
    return storable(value) if isinstance(value, str) else value


def _added(checksum: int, page: list[dict[str, Any]]) -> int:
    for row in page:
        written = json.dumps(row, sort_keys=True).encode()
        checksum += int.from_bytes(hashlib.sha256(written).digest())
    return checksum % 2**256


class _WrittenJson(UserDefinedType[str]):
    """JSON that is given as text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "JSON"


def _plain(table: Table) -> Table:
    """Return the table, for rows as `_pages` gives them: nothing is added to them, and JSON is not written again."""
    columns = [
        Column(column.name, _WrittenJson() if isinstance(column.type, JSON) else column.type) for column in table.c
    ]
    return Table(table.name, MetaData(), *columns)


async def _go_on_counting(tx: AsyncConnection, table: Table) -> None:
    """Let the numbers of new rows follow those that were written."""
    counter = table.autoincrement_column
    if tx.dialect.name != "postgresql" or counter is None:
        return
    last = await tx.scalar(select(func.max(counter)))
    if last is not None:
        await tx.execute(select(func.setval(func.pg_get_serial_sequence(table.name, counter.name), last)))
