"""A register on a PostgreSQL server, in the schema ``muster`` of a database.

Writers take turns as they do with an SQLite file: each transaction first takes one lock, and only then its snapshot of
the database, so it sees everything that was written before and nothing that is written meanwhile. The number of a row
is given under that lock, so numbers grow in the order of the commits, which delivery relies on. What programs other
than Muster write at the same time is a conflict, which undoes the transaction (``REPEATABLE READ``).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core.crash_points import around
from core.errors import RegisterError
from database import migrations
from database.engine.dsn import ServerAddress
from database.engine.postgres_connection import SCHEMA, ServerAccess, broke_off
from database.schema import metadata

#: The oldest server that knows all that is asked of it.
OLDEST = 140_000

#: Seconds, in the server: to wait for the turn, and for all of a statement.
TURN_LIMIT = 10.0
STATEMENT_LIMIT = 20.0
#: A transaction that rests for so many seconds is given up by the server: its process is stopped, or its machine gone.
REST_LIMIT = 15.0

_READERS = 4

#: The advisory lock of whoever migrates.
_MIGRATING = 7_202_601

_TURN = f"LOCK TABLE {migrations.VERSION_TABLE} IN EXCLUSIVE MODE"


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What a look at a database finds."""

    #: The server's.
    version: str
    #: Of the register's tables; None when there are none yet.
    revision: str | None
    #: Whether the server waits for its disk, so that a power cut takes nothing.
    durable: bool
    #: Whether the server lets in over TCP whoever calls themselves as we do, and be it an agent.
    open_to_all: bool


class DatabaseServer:
    """The open database."""

    def __init__(self, access: ServerAccess, stamps: Mapping[str, str | None], *, alone: bool = False) -> None:
        self.place = access.place
        self._access = access
        self._stamps = dict(stamps)
        self._alone = alone
        self._identity: tuple[object, ...] | None = None
        self.writers = self._engine(read_only=False)
        self.readers = self.writers if alone else self._engine(read_only=True)

    @classmethod
    async def open(
        cls,
        address: ServerAddress,
        password: Callable[[], str] | None,
        stamps: Mapping[str, str | None],
        *,
        alone: bool = False,
    ) -> DatabaseServer:
        """Open the database; its schema is made or migrated where needed.

        Args:
            address: where it is.
            password: fetches the password, each time again; None: whatever else lets us in.
            stamps: what every row that is inserted carries (`database.schema`).
            alone: no one else may have it open, now or until it is closed.

        Raises:
            RegisterError: it cannot be used; it is left as it was found.
        """
        access = ServerAccess(address, password, stamps["host"] or "")
        # Alembic keeps its state in globals and holds them while it waits: not in the loop of everybody else.
        await asyncio.to_thread(lambda: asyncio.run(_prepare(access)))
        made = cls(access, stamps, alone=alone)
        try:
            await made.look()
        except BaseException:
            await made.close()
            raise
        return made

    async def close(self) -> None:
        await self.writers.dispose()
        await self.readers.dispose()

    def check(self) -> None:
        """Nothing to do: a connection leads to where it was opened."""

    async def take_turn(self, tx: AsyncConnection) -> None:
        """Wait until no one else writes. The transaction sees the database as it is from then on."""
        await tx.exec_driver_sql(_TURN)

    def refusal(self, error: BaseException) -> RegisterError | None:
        """Return what to say of an error; None when it is none of the database's."""
        return self._access.refusal(error)

    async def shrink(self) -> bool:
        """Do nothing: the server vacuums by itself."""
        return False

    async def look(self) -> None:
        """Make sure that the database answers, and is the one that was opened.

        Raises:
            RegisterError: it does not, or is not.
        """
        try:
            async with self.readers.connect() as tx:
                found = tuple((await tx.exec_driver_sql(_IDENTITY, (migrations.VERSION_TABLE,))).one())
        except DBAPIError as error:
            raise self._access.unusable(error) from error
        if self._identity not in (None, found):
            raise RegisterError(f"The register {self.place} was replaced while Muster was running. Restart Muster.")
        self._identity = found

    # --- connections -------------------------------------------------------------------------------------------

    def _engine(self, *, read_only: bool) -> AsyncEngine:
        async def connect() -> Any:
            return await self._access.connect(
                alone=self._alone,
                patient=self._alone,
                default_transaction_isolation="repeatable read",
                default_transaction_read_only="on" if read_only else "off",
                lock_timeout=_milliseconds(TURN_LIMIT),
                statement_timeout=_milliseconds(0.0 if self._alone else STATEMENT_LIMIT),
                idle_in_transaction_session_timeout=_milliseconds(0.0 if self._alone else REST_LIMIT),
                client_connection_check_interval="2s",
            )

        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            pool_size=_READERS if read_only else 1,
            max_overflow=0,
            pool_reset_on_return=None,  # a transaction has ended when its connection comes back
            execution_options=self._stamps,
        )
        event.listen(engine.sync_engine, "checkout", _still_open)
        event.listen(engine.sync_engine, "handle_error", self._mind_silence)
        return engine

    def _mind_silence(self, context: ExceptionContext) -> BaseException | None:
        """Called by SQLAlchemy for every error on an open connection; those of the network are not the database's."""
        error = context.original_exception
        if broke_off(error):
            context.is_disconnect = True
        if not isinstance(error, OSError):  # of which TimeoutError is one
            return None
        context.is_disconnect = True
        return self._access.silence(error)


# --- the first look --------------------------------------------------------------------------------------------------


async def survey(address: ServerAddress, password: Callable[[], str] | None) -> Survey:
    """Look at a database without changing it.

    Raises:
        RegisterError: it cannot be used as a register.
    """
    access = ServerAccess(address, password, "doctor")
    async with looking(access) as engine, engine.connect() as tx:
        version = await _check_server(access.place, tx)
        revision = await _revision(access.place, tx)
        durable = await tx.scalar(text("SHOW fsync")) == "on"
    open_to_all = not address.local and await ServerAccess(address, secrets.token_hex, "doctor").lets_in()
    return Survey(version=version, revision=revision, durable=durable, open_to_all=open_to_all)


async def _prepare(access: ServerAccess) -> None:
    """Make sure that the schema is there, with the tables of this program."""
    async with looking(access) as engine:
        async with engine.connect() as tx:
            await _check_server(access.place, tx)
            await tx.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
            revision = await _revision(access.place, tx)
            if revision != migrations.head():
                await _migrate(tx, revision)
        async with engine.connect() as tx:
            await _check_tables(access.place, tx)


def looking(access: ServerAccess) -> AbstractAsyncContextManager[AsyncEngine]:
    """Return an engine for a server of which nothing is known yet."""
    return access.engine(lock_timeout=_milliseconds(TURN_LIMIT))


async def _check_server(place: str, tx: AsyncConnection) -> str:
    """Make sure that the server can hold a register. Returns its version."""
    version, name, encoding, standby = tuple((await tx.exec_driver_sql(_SERVER)).one())
    if version < OLDEST:
        raise RegisterError(f"The register {place} is on PostgreSQL {name}; Muster needs {OLDEST // 10_000} or newer.")
    if encoding != "UTF8":
        raise RegisterError(
            f"The register {place} has the encoding {encoding}, which cannot hold all that people write. Create a "
            "database with ENCODING 'UTF8'."
        )
    if standby:
        raise RegisterError(f"The register {place} is a standby, which takes no writes. Name the primary.")
    return str(name)


async def _revision(place: str, tx: AsyncConnection) -> str | None:
    """Return the revision of the schema; None when no table was made yet."""
    tables = set((await tx.execute(_TABLES, {"schema": SCHEMA})).scalars())
    if migrations.VERSION_TABLE not in tables:
        if tables:
            raise RegisterError(
                f"The schema {SCHEMA} of {place} is another program's (it has the table {min(tables)!r}). Name another "
                "database for the register."
            )
        return None
    revision = await tx.scalar(text(f"SELECT version_num FROM {SCHEMA}.{migrations.VERSION_TABLE}"))  # noqa: S608 (constants)
    if revision is not None and revision not in migrations.known():
        raise RegisterError(
            f"The register {place} was written by a newer Muster: its schema is {revision!r}, this program knows them "
            f"up to {migrations.head()!r}. Install the newer Muster again, or restore a backup from before it."
        )
    return None if revision is None else str(revision)


async def _migrate(tx: AsyncConnection, revision: str | None) -> None:
    """Make or change the tables, in the transaction `tx`."""
    if revision is not None:
        # Before any other table, as writers do, or they and we could wait for each other.
        await tx.exec_driver_sql(_TURN)
    elif not await tx.scalar(text("SELECT to_regnamespace(:schema) IS NOT NULL"), {"schema": SCHEMA}):
        await tx.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
    await tx.run_sync(make_tables)
    with around(migrations.MIGRATE):
        await tx.commit()


async def _check_tables(place: str, tx: AsyncConnection) -> None:
    missing = set(metadata.tables) - set((await tx.execute(_TABLES, {"schema": SCHEMA})).scalars())
    if missing:
        raise RegisterError(f"The register {place} lacks the table {min(missing)!r}. Restore it from a backup.")
    for table in metadata.tables:
        # The first page of each: what cannot be read or is not allowed is better known now.
        await tx.exec_driver_sql(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608 (names of ours)


_IDENTITY = """
    SELECT (SELECT system_identifier FROM pg_control_system()),
        (SELECT oid FROM pg_database WHERE datname = current_database()), $1::text::regclass::oid
"""

_SERVER = """
    SELECT current_setting('server_version_num')::int, current_setting('server_version'),
        current_setting('server_encoding'), pg_is_in_recovery()
"""

_TABLES = text("SELECT tablename::text FROM pg_tables WHERE schemaname = :schema")

#: Text is compared byte by byte, as SQLite does. Orders that depend on a language change with the system's libraries,
#: and an index that was made under another order no longer keeps keys unique.
_COLLATE = text("""
    SELECT format('ALTER TABLE %I ALTER COLUMN %I TYPE %s COLLATE "C"', tablename, column_name, data_type)
    FROM pg_tables JOIN information_schema.columns ON table_schema = schemaname AND table_name = tablename
    WHERE schemaname = :schema AND data_type IN ('character varying', 'text') AND collation_name IS DISTINCT FROM 'C'
""")


def make_tables(connection: Connection) -> None:
    """Make or change the tables in the schema that is there; the caller commits."""
    migrations.apply(connection)
    for statement in connection.execute(_COLLATE, {"schema": SCHEMA}).scalars().all():
        connection.exec_driver_sql(statement)


def _still_open(connection: Any, _record: object, _proxy: object) -> None:
    """Called by SQLAlchemy for every connection that it takes from its pool; one that was lost is made again."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the server closed it")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"
