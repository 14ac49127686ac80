"""A copy of a register as it is at one moment, in an SQLite file, whatever it is itself and whoever works with it.

Of an SQLite file every page is copied in one read transaction, beside which others go on writing (WAL). Of a register
on a PostgreSQL server every row is, in one repeatable-read transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from core.errors import RegisterError
from database import migrations
from database.engine import database_copy, sqlite
from database.engine import dsn as addresses
from database.engine.store import Store

_TIMEOUT = 10.0  # seconds for which another process may hold the file


@dataclass(frozen=True, kw_only=True, slots=True)
class RegisterSnapshot:
    """What was copied."""

    #: sqlite or postgresql
    kind: str
    revision: str
    #: How many rows each table has.
    rows: Mapping[str, int]


async def take(
    url: str,
    file: Path,
    *,
    password: Callable[[], str] | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> RegisterSnapshot:
    """Copy the register at `url` into the new file `file`.

    Args:
        url: the register's address.
        file: its folder is there, and no one else's.
        password: fetches the password of a server.
        progress: told of each table of a server how many of its rows exist already, and of how many.

    Raises:
        RegisterError: the register cannot be read, or the copy not be written. What there is of the copy is the
            caller's to remove.
    """
    here = addresses.parse(url)
    if isinstance(here, addresses.FileAddress):
        await asyncio.to_thread(_copy_pages, here.file, file)
        return await asyncio.to_thread(look, file, kind="sqlite")
    source = await Store.open(url, password=password)
    try:
        await database_copy.snapshot(source, file, progress=progress)
    finally:
        await source.close()
    return await asyncio.to_thread(look, file, kind="postgresql")


def look(file: Path, *, kind: str = "sqlite") -> RegisterSnapshot:
    """Return what is in a register's file that no one has open. Blocking.

    Raises:
        RegisterError: it is damaged, or no register of this program or an older one.
    """
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if finding != "ok":
                raise RegisterError(f"{file.name} is damaged: {finding}.")
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            if migrations.VERSION_TABLE not in tables:
                raise RegisterError(f"{file.name} is no register: it lacks the table {migrations.VERSION_TABLE}.")
            row = connection.execute(f"SELECT version_num FROM {migrations.VERSION_TABLE}").fetchone()  # noqa: S608 (a constant)
            rows = {}
            for name in tables:
                if name != migrations.VERSION_TABLE and not name.startswith("sqlite_"):
                    quoted = '"' + name.replace('"', '""') + '"'
                    rows[name] = connection.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0]  # noqa: S608 (quoted)
    except sqlite3.Error as error:
        raise sqlite.refusal(file, error) or RegisterError(f"{file} cannot be read: {error}.") from error
    return RegisterSnapshot(kind=kind, revision="" if row is None else str(row[0]), rows=dict(sorted(rows.items())))


def _copy_pages(source: Path, target: Path) -> None:
    if not source.exists():
        raise RegisterError(f"There is no register yet: {source} does not exist. `muster up` makes it.")
    target.touch(mode=0o600, exist_ok=False)
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=_TIMEOUT)) as reading,
            closing(sqlite3.connect(target, isolation_level=None)) as writing,
        ):
            reading.execute("PRAGMA query_only = ON")
            # All pages in one step: a pause in between would start again whenever someone else wrote
            # (https://www.sqlite.org/backup.html).
            reading.backup(writing, pages=-1)
            writing.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", None) or ""
        place = target if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE")) else source
        raise sqlite.refusal(place, error) or RegisterError(f"{source} cannot be copied: {error}.") from error
