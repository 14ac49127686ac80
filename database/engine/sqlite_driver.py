"""The SQLite driver with one change of threads per statement, or none.

aiosqlite does its work in a thread. SQLAlchemy goes there for each of a statement's four parts: making a cursor,
executing, fetching, closing. On a busy machine the way there and back costs more than the work, so here all four are
one errand, and the first statement of a transaction takes its BEGIN along. A statement whose result nobody needs waits
for the next one, or for the commit (`execute_along`). Nothing else is changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

import aiosqlite
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection

_NOTHING: tuple[Any, ...] = ()
_Work: TypeAlias = Callable[[sqlite3.Cursor], object]


class SqliteCursor:
    """What SQLAlchemy uses of a cursor (PEP 249, awaitable). The rows come with the statement."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] = _NOTHING) -> None:
        """Run a statement and fetch all that it finds."""
        await self._connection.do(self, lambda cursor: cursor.execute(sql, parameters))

    async def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each of `parameters`."""
        await self._connection.do(self, lambda cursor: cursor.executemany(sql, parameters))

    async def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        """Forget the rows; the database has nothing open for us any more."""
        self._rows = []

    def fill(self, done: sqlite3.Cursor) -> None:
        """Take over what a statement left behind."""
        self.description = done.description
        self._rows = done.fetchall() if done.description is not None else []
        self.rowcount, self.lastrowid = done.rowcount, done.lastrowid


class SqliteConnection(aiosqlite.Connection):
    """A connection that makes such cursors."""

    _begin: str | None = None
    _next_waits = False
    _single = False

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._waiting: list[_Work] = []

    def begin(self, how: str) -> None:
        """Begin a transaction with the next statement; without one there is none."""
        self._begin = how
        self._single = False

    def begin_none(self) -> None:
        """Begin no transaction: each statement that follows stands alone, and nothing needs a rollback."""
        self._single = True

    def wait_with_next(self) -> None:
        """Let the next statement wait for the one after it, or for the commit. It leaves no result."""
        self._next_waits = True

    def cursor(self) -> SqliteCursor:  # type: ignore[override]
        """Return a cursor; the database learns of it with its first statement."""
        return SqliteCursor(self)

    async def do(self, cursor: SqliteCursor, work: _Work) -> None:
        """Do `work` with a cursor of the database, and bring home what it found."""
        if self._next_waits:
            self._next_waits = False
            self._waiting.append(work)
            return
        before = self._before()

        def there() -> None:
            real = self._conn.cursor()
            try:
                before(real)
                work(real)
                cursor.fill(real)
            finally:
                real.close()

        await self._execute(there)  # type: ignore[no-untyped-call]

    async def commit(self) -> None:
        """Commit, together with what waited."""
        if not self._waiting:
            await super().commit()
            return
        before = self._before()

        def there() -> None:
            real = self._conn.cursor()
            try:
                before(real)
            finally:
                real.close()
            self._conn.commit()

        await self._execute(there)  # type: ignore[no-untyped-call]

    async def rollback(self) -> None:
        """Undo what was done, and forget what waited."""
        self._waiting.clear()
        self._next_waits = False
        if not self._single:
            await super().rollback()

    def _before(self) -> _Work:
        begin, self._begin = self._begin, None
        waiting, self._waiting = self._waiting, []

        def there(cursor: sqlite3.Cursor) -> None:
            if begin is not None:
                cursor.execute(begin)
            for work in waiting:
                work(cursor)

        return there


async def execute_along(tx: AsyncConnection, statement: Executable, values: Any = None) -> None:
    """Run a statement whose result nobody needs, at the latest with the commit.

    What is wrong with it may be reported only then.
    """
    driver = (await tx.get_raw_connection()).driver_connection
    if isinstance(driver, SqliteConnection):
        driver.wait_with_next()
    await tx.execute(statement, values)


async def connect(file: Path, *, timeout: float) -> SqliteConnection:
    """Open a database, in whose transactions the driver does not meddle.

    Args:
        file: the database.
        timeout: seconds to wait while another process writes.
    """
    connection = SqliteConnection(
        lambda: sqlite3.connect(file, timeout=timeout, isolation_level=None), iter_chunk_size=64
    )
    # A process that ends without closing its connections ends all the same, as SQLAlchemy has it for its own.
    connection._thread.daemon = True
    await connection
    return connection
