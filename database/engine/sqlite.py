"""A register in an SQLite file: made whole or not at all, and refused when it is not what it should be.

A new register is built beside its place and linked into it when its tables stand, so the place never holds an empty
or half-made file. What lies in the place is never overwritten: what is wrong with it is said, and it is left as it was.

SQLite runs in WAL mode with ``synchronous=FULL``: what was committed stands after a power cut. Writers begin with
``BEGIN IMMEDIATE``, so a transaction never fails half-way because another one was faster; readers have connections of
their own and wait for no one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core import sqlite_vacuum
from core.crash_points import around, declare
from core.durable_files import sync_folder
from core.errors import RegisterError, RegisterFull, RegisterUnusable
from database import migrations
from database.engine import sqlite_driver

CREATE = declare("register.create")

_HEADER_BYTES = 100  # https://www.sqlite.org/fileformat.html, section 1.3
_NOT_OURS = "is not an SQLite database"

#: Files up to this size are checked through at every start (some 0.3 s at the limit). Larger ones are checked by their
#: header, their length and their catalogue; damage further in is found, and refused, when it is met.
FULL_CHECK_BYTES = 64 * 1024 * 1024

#: When a commit counts as written (https://www.sqlite.org/pragma.html#pragma_synchronous).
SYNCHRONOUS: Final = "FULL"

#: Milliseconds for which a connection waits while another process writes.
BUSY_TIMEOUT_MS = 10_000
#: Milliseconds for which others may still be closing a file that is wanted alone.
_ALONE_TIMEOUT_MS = 500
_AGAIN_S = 0.01

_READERS = 4
#: The execution option of a connection whose statements need no transaction.
SINGLE_STATEMENTS = "single_statements"
#: What is left of the write-ahead log after a large transaction was taken into the file.
_WAL_BYTES = 16 * 1024 * 1024

_ABANDONED_AFTER = 3600.0  # seconds after which a draft is what a crash left behind

_WAY_OUT = (
    "Restore it from a backup, or move it away together with its -wal and -shm files to begin with an empty register."
)


class DatabaseFile:
    """The open file."""

    def __init__(self, file: Path, stamps: Mapping[str, str | None], *, alone: bool) -> None:
        self.file = file
        self.place = str(file)
        self._identity = _identity(file)
        self.writers = _engine(file, stamps, begin="BEGIN IMMEDIATE", connections=1, alone=alone)
        readers = None if alone else _engine(file, stamps, begin="BEGIN", connections=_READERS)
        self.readers = readers or self.writers

    @classmethod
    async def open(cls, file: Path, stamps: Mapping[str, str | None], *, alone: bool = False) -> DatabaseFile:
        """Open the file, made or migrated where needed.

        Args:
            file: its absolute path.
            stamps: what every row that is inserted carries (`database.schema`).
            alone: no one else may have it open, now or until it is closed.

        Raises:
            RegisterError: what lies there cannot be used; it is left as it was found.
        """
        await asyncio.to_thread(prepare, file)
        made = cls(file, stamps, alone=alone)
        if alone:
            await made._shut_out_others()
        return made

    async def _shut_out_others(self) -> None:
        """Take the lock that each connection of others holds a share of (https://www.sqlite.org/wal.html)."""
        try:
            async with self.writers.connect() as tx:
                await tx.exec_driver_sql(f"SELECT 1 FROM {migrations.VERSION_TABLE}")  # noqa: S608 (a constant)
        except DBAPIError as error:
            await self.close()
            raise RegisterError(f"{self.file} is open in another process. Stop that first (`muster down`).") from error

    async def close(self) -> None:
        await self.writers.dispose()
        await self.readers.dispose()

    def check(self) -> None:
        """Make sure that the file is still in its place.

        Raises:
            RegisterError: it is not; SQLite would go on with a file that no one finds, and all would be lost.
        """
        if _identity(self.file) != self._identity:
            raise RegisterUnusable(
                f"{self.file} was removed or replaced while Muster was running. Put it back, or restart Muster."
            )

    async def take_turn(self, tx: AsyncConnection) -> None:
        """Nothing to do: the first statement begins with ``BEGIN IMMEDIATE``."""

    def refusal(self, error: BaseException) -> RegisterError | None:
        """Return what to say of an error; None when it is none of the database's."""
        original = error.orig if isinstance(error, DBAPIError) else error
        return refusal(self.file, original) if isinstance(original, sqlite3.Error) else None

    async def shrink(self) -> bool:
        async with self.writers.connect() as tx:
            # Past SQLAlchemy and its transaction: a script alone goes through all the rows that the pragma returns.
            ours: Any = (await tx.get_raw_connection()).driver_connection
            free = await _free_pages(ours)
            pages = sqlite_vacuum.give_back(free)
            if not pages:
                return False
            try:
                await ours.executescript(sqlite_vacuum.script(pages))
            except BaseException:
                if ours.in_transaction:
                    await ours.rollback()
                raise
            left = await _free_pages(ours)
            # A file that cannot shrink has as many as before.
            return left < free and sqlite_vacuum.give_back(left) > 0

    async def look(self) -> None:
        """Make sure that the register can be read.

        Raises:
            RegisterError: it cannot.
        """
        self.check()


def prepare(file: Path) -> None:
    """Make sure that `file` is a register with the tables of this program. Blocking.

    Raises:
        RegisterError: it is not and cannot be made one; the file is untouched.
    """
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = file.exists()
    except OSError as error:
        raise RegisterError(f"{file}: its folder cannot be used: {error.strerror}. Check path and owner.") from error
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise RegisterError(f"{file.parent}: this folder of the register cannot be written. Check owner and mode.")
    with _explained(file):
        if not present:
            _create(file)
        _check_size(file)
        file.chmod(0o600)
        revision = _check_content(file)
        if revision != migrations.head():
            migrations.upgrade(file)
        _write_ahead(file)


def _create(file: Path) -> None:
    leftover = file.with_name(file.name + "-wal")
    if leftover.exists():
        raise RegisterError(
            f"{leftover} exists, but {file.name} does not: a part of a register is missing. "
            "Put the file back, or move the leftover away to begin with an empty register."
        )
    for abandoned in file.parent.glob(f".{file.name}.*.new"):
        if time.time() - abandoned.stat().st_mtime > _ABANDONED_AFTER:
            abandoned.unlink(missing_ok=True)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}.new")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        migrations.upgrade(draft)
        with around(CREATE):
            _link(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def _link(draft: Path, file: Path) -> None:
    try:
        file.hardlink_to(draft)
    except FileExistsError:
        return  # another process was faster; its register is as good
    sync_folder(file.parent)


def _write_ahead(file: Path) -> None:
    """Have the file keep a write-ahead log; it remembers that.

    Of two connections that ask for this at once, one is refused without waiting; so it is done before there are two.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    with closing(sqlite3.connect(file, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)) as connection:
        sqlite_vacuum.convert(connection, file)
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_AGAIN_S)
            else:
                return


def _check_size(file: Path) -> None:
    if not file.is_file():
        raise RegisterError(f"{file} is not a file, but the register is one. Move it away, or name another place.")
    # It is not opened here: closing it would take away all locks that this process holds on it (fcntl(2), "close"), and
    # with them what keeps others from deleting the write-ahead log of a register that is open.
    size = file.stat().st_size
    if size < _HEADER_BYTES:
        raise RegisterError(f"{file} {_NOT_OURS if size else 'is empty'}, so it cannot be the register. {_WAY_OUT}")


def _check_content(file: Path) -> str | None:
    """Return the revision of the schema; None when no table was made yet."""
    with closing(
        sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_MS / 1000)
    ) as connection:
        if file.stat().st_size <= FULL_CHECK_BYTES:
            finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if finding != "ok":
                raise RegisterError(f"{file} is damaged: {finding}. {_WAY_OUT}")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if migrations.VERSION_TABLE not in tables:
            if tables:
                raise RegisterError(
                    f"{file} is a database of another program (it has the table {min(tables)!r}). "
                    "Name another place for the register."
                )
            return None
        row = connection.execute(f"SELECT version_num FROM {migrations.VERSION_TABLE}").fetchone()  # noqa: S608 (a constant)
    revision = None if row is None else str(row[0])
    if revision is not None and revision not in migrations.known():
        raise RegisterError(
            f"{file} was written by a newer Muster: its schema is {revision!r}, this program knows them up to "
            f"{migrations.head()!r}. Install the newer Muster again, or restore a backup from before it."
        )
    return revision


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RegisterError(f"{file} cannot be used: {error.strerror}. Check its owner, mode and disk.") from error
    except sqlite3.Error as error:
        raise refusal(file, error) or RegisterError(f"{file} cannot be used: {error}. {_WAY_OUT}") from error


def refusal(place: object, error: BaseException) -> RegisterError | None:
    """Return what to say when SQLite could not do its work; None when the statement itself was at fault."""
    name = getattr(error, "sqlite_errorname", None) or ""
    if name == "SQLITE_FULL":
        return RegisterFull(f"{place}: the disk is full. Nothing was half done; make room, and the work goes on.")
    primary = "_".join(name.split("_")[:2])
    if primary == "SQLITE_NOTADB":
        return RegisterUnusable(f"{place} {_NOT_OURS}, so it cannot be the register. {_WAY_OUT}")
    if primary == "SQLITE_CORRUPT":
        return RegisterUnusable(f"{place} is damaged: {error}. {_WAY_OUT}")
    if primary in ("SQLITE_BUSY", "SQLITE_LOCKED"):
        return RegisterError(f"{place} is locked by another program. Stop what else has it open.")
    if primary in ("SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"):
        return RegisterUnusable(f"{place} cannot be read or written: {error}. Check its owner, its mode and the disk.")
    return None


async def _free_pages(connection: Any) -> int:
    rows = await connection.execute_fetchall("PRAGMA freelist_count")
    return int(next(iter(rows))[0])


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _engine(
    file: Path, stamps: Mapping[str, str | None], *, begin: str, connections: int, alone: bool = False
) -> AsyncEngine:
    wait = _ALONE_TIMEOUT_MS if alone else BUSY_TIMEOUT_MS
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{file}",
        async_creator=partial(sqlite_driver.connect, file, timeout=wait / 1000),
        pool_size=connections,
        max_overflow=0,
        pool_reset_on_return=None,  # a transaction has ended when its connection comes back
        execution_options=dict(stamps),
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        if alone:
            cursor.execute("PRAGMA locking_mode = EXCLUSIVE")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
        cursor.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        cursor.execute(f"PRAGMA busy_timeout = {wait}")
        if begin == "BEGIN":
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    # Python's own transactions begin late and end at odd moments; ours begin with their first statement.
    @event.listens_for(engine.sync_engine, "begin")
    def _(connection: Connection) -> None:
        ours: Any = connection.connection.driver_connection
        if connection.get_execution_options().get(SINGLE_STATEMENTS):
            ours.begin_none()
        else:
            ours.begin(begin)

    return engine
