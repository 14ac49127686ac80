"""The register: one database, opened once per process, written by one transaction at a time.

SQLite runs in WAL mode with ``synchronous=FULL``: what was committed stands after a power cut. Writers queue on a lock
of ours and begin with ``BEGIN IMMEDIATE``, so a transaction never fails half-way because another one was faster;
readers have connections of their own and wait for nobody.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from register import database_file, driver
from register.crashpoints import around
from register.database_file import RegisterFull
from register.errors import RegisterError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import Connection, CursorResult, Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from register.crashpoints import Step

__all__ = ["RegisterFull", "Store", "insert_once"]

#: Milliseconds for which a connection waits while another process (a command in a shell) writes.
BUSY_TIMEOUT_MS = 10_000

_READERS = 4


class Store:
    """The open register. Every row that is written through it is stamped with its tenant and host."""

    def __init__(self, file: Path, options: dict[str, Any]) -> None:
        self.file = file
        self._identity = _identity(file)
        self._writers = _engine(file, options, begin="BEGIN IMMEDIATE", connections=1)
        self._readers = _engine(file, options, begin="BEGIN", connections=_READERS)
        self._turn = asyncio.Lock()
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, tenant_id: str = "default", host: str | None = None) -> Store:
        """Open the register at `url` (``sqlite:////var/lib/muster/register.db``), made or migrated where needed.

        Raises:
            RegisterError: what lies there cannot be used; it is left as it was found.
        """
        file = _file_of(url)
        await asyncio.to_thread(database_file.prepare, file)
        return cls(file, {"tenant_id": tenant_id, "host": host or socket.gethostname()})

    async def close(self) -> None:
        """Wait for the transaction that is being written, then close. Safe to call twice."""
        async with self._turn:
            self._closed = True
            await self._writers.dispose()
            await self._readers.dispose()

    @asynccontextmanager
    async def write(self, step: Step) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed when the block ends, undone when it raises.

        Raises:
            RegisterFull: the disk is full; nothing of the block stands.
            RegisterError: the database could not be used; nothing of the block stands.
        """
        async with self._turn:
            self._check_place()
            with _explained(self.file):
                async with self._writers.connect() as tx:
                    yield tx
                    with around(step):
                        await tx.commit()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A snapshot to read from.

        Raises:
            RegisterError: the database could not be used.
        """
        self._check_place()
        with _explained(self.file):
            async with self._readers.connect() as tx:
                yield tx

    def _check_place(self) -> None:
        if self._closed:
            raise RegisterError(f"{self.file} was closed: Muster is stopping.")
        # SQLite goes on with a file that nobody can find any more, and all that is written there would be lost.
        if _identity(self.file) != self._identity:
            raise RegisterError(
                f"{self.file} was removed or replaced while Muster was running. Put it back, or restart Muster."
            )


async def insert_once(tx: AsyncConnection, table: Table, **values: Any) -> bool:
    """Insert a row unless one with its key is there. Says whether the row is new."""
    insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
    result = await tx.execute(insert(table).on_conflict_do_nothing(), values)
    return cast("CursorResult[Any]", result).rowcount == 1


def _file_of(url: str) -> Path:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except ArgumentError as error:
        raise RegisterError(
            f"{url!r} is no address of a register. Write sqlite:/// and the absolute path of a file."
        ) from error
    if backend != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise RegisterError(
            f"{parsed.render_as_string()}: a register is an SQLite file. Write sqlite:/// and its absolute path."
        )
    return Path(parsed.database)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _engine(file: Path, options: dict[str, Any], *, begin: str, connections: int) -> AsyncEngine:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{file.absolute()}",
        async_creator=partial(driver.connect, file.absolute(), timeout=BUSY_TIMEOUT_MS / 1000),
        pool_size=connections,
        max_overflow=0,
        pool_reset_on_return=None,  # a transaction has ended when its connection comes back
        execution_options=options,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        if begin == "BEGIN":
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    # Python's own transactions begin late and end at odd moments; ours begin with their first statement.
    @event.listens_for(engine.sync_engine, "begin")
    def _(connection: Connection) -> None:
        ours: Any = connection.connection.driver_connection
        ours.begin(begin)

    return engine


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        original = error.orig if isinstance(error, DBAPIError) else error
        refusal = None if original is None else database_file.refusal(file, original)
        if refusal is None:
            raise
        raise refusal from error
