"""The SQLite driver with one change of threads per statement.

aiosqlite does its work in a thread. SQLAlchemy goes there for each of a statement's four parts: making a cursor,
executing, fetching, closing. On a busy machine the way there and back costs more than the work, so here all four are
one errand, and the first statement of a transaction takes its BEGIN along. Nothing else is changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import aiosqlite

_NOTHING: tuple[Any, ...] = ()


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
        await self._connection.errand(self, lambda cursor: cursor.execute(sql, parameters))

    async def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each of `parameters`."""
        await self._connection.errand(self, lambda cursor: cursor.executemany(sql, parameters))

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

    def begin(self, how: str) -> None:
        """Begin a transaction with the next statement; without one there is none."""
        self._begin = how

    def cursor(self) -> SqliteCursor:  # type: ignore[override]
        """Return a cursor; the database learns of it with its first statement."""
        return SqliteCursor(self)

    async def errand(self, cursor: SqliteCursor, work: Callable[[sqlite3.Cursor], object]) -> None:
        """Do `work` with a cursor of the database, and bring home what it found."""
        begin, self._begin = self._begin, None

        def there() -> None:
            real = self._conn.cursor()
            try:
                if begin is not None:
                    real.execute(begin)
                work(real)
                cursor.fill(real)
            finally:
                real.close()

        await self._execute(there)  # type: ignore[no-untyped-call]


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
