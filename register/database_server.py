"""A register on a PostgreSQL server, in the schema ``muster`` of a database.

Writers take turns as they do with an SQLite file: each transaction first takes one lock, and only then its snapshot of
the database, so it sees everything that was written before and nothing that is written meanwhile. The number of a row
is given under that lock, so numbers grow in the order of the commits, which delivery relies on. What programs other
than Muster write at the same time is a conflict, which undoes the transaction (``REPEATABLE READ``).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
from sqlalchemy import NullPool, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import create_async_engine

from register import migrations
from register.crashpoints import around
from register.errors import MusterError, RegisterError
from register.schema import metadata
from register.server_refusals import away, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from register.address import ServerAddress

SCHEMA = "muster"

#: The oldest server that knows all that is asked of it.
OLDEST = 140_000

#: Seconds: to connect; for an answer to a statement; to wait for the turn, and for all of a statement, in the server.
CONNECT_LIMIT = 10.0
ANSWER_LIMIT = 25.0
TURN_LIMIT = 10.0
STATEMENT_LIMIT = 20.0
#: A transaction that rests for so many seconds is given up by the server: its process is stopped, or its machine gone.
REST_LIMIT = 60.0

_READERS = 4

#: Seconds for which others may still be closing a register that is wanted alone.
_ALONE_LIMIT = 2.0

#: Advisory locks of ours: held by whoever migrates; held, shared, by whoever has the register open.
_MIGRATING = 7_202_601
_OPEN = 7_202_602

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

    def __init__(
        self,
        address: ServerAddress,
        password: Callable[[], str] | None,
        stamps: Mapping[str, str],
        *,
        alone: bool = False,
    ) -> None:
        self.place = str(address)
        self._address = address
        self._password = password
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
        stamps: Mapping[str, str],
        *,
        alone: bool = False,
    ) -> DatabaseServer:
        """Open the database; its schema is made or migrated where needed.

        Args:
            address: where it is.
            password: fetches the password, each time anew; None: whatever else lets us in.
            stamps: what every row that is inserted carries (`register.schema`).
            alone: nobody else may have it open, now or until it is closed.

        Raises:
            RegisterError: it cannot be used; it is left as it was found.
        """
        made = cls(address, password, stamps, alone=alone)
        # Alembic keeps its state in globals and holds them while it waits: not in the loop of everybody else.
        await asyncio.to_thread(lambda: asyncio.run(made._prepare()))
        try:
            await made.look()
        except BaseException:
            await made.close()
            raise
        return made

    @classmethod
    async def survey(cls, address: ServerAddress, password: Callable[[], str] | None) -> Survey:
        """Look at a database without changing it.

        Raises:
            RegisterError: it cannot be used as a register.
        """
        looking = cls(address, password, {"host": "doctor"})
        engine = looking._plain_engine()
        try:
            async with engine.connect() as tx:
                version = await looking._check_server(tx)
                revision = await looking._revision(tx)
                durable = await tx.scalar(text("SHOW fsync")) == "on"
        except DBAPIError as error:
            raise looking.refusal(error) or looking._unusable(error) from error
        finally:
            await engine.dispose()
        open_to_all = not address.local and await cls(address, secrets.token_hex, {"host": "doctor"})._gets_in()
        return Survey(version=version, revision=revision, durable=durable, open_to_all=open_to_all)

    async def _gets_in(self) -> bool:
        try:
            (await self._connect()).terminate()
        except RegisterError:
            return False
        return True

    async def close(self) -> None:
        await self.writers.dispose()
        await self.readers.dispose()

    def check(self) -> None:
        """Nothing to do: a connection leads to where it was opened."""

    async def take_turn(self, tx: AsyncConnection) -> None:
        """Wait until nobody else writes. The transaction sees the database as it is from then on."""
        await tx.exec_driver_sql(_TURN)

    def refusal(self, error: BaseException) -> RegisterError | None:
        """What to say of an error; None when it is none of the database's."""
        original: Any = error.orig if isinstance(error, DBAPIError) else error
        cause = original.__cause__ if isinstance(original, Exception) else None
        if isinstance(cause, asyncpg.InterfaceError) or isinstance(original, asyncpg.InterfaceError):
            # The driver's own: a connection that was lost before the statement could go out.
            return away(self.place, str(cause or original)) if "clos" in str(cause or original) else None
        code = getattr(original, "sqlstate", None)
        return None if code is None else refusal(self.place, code, _words(cause or original))

    async def look(self) -> None:
        """Make sure that the database answers, and is the one that was opened.

        Raises:
            RegisterError: it does not, or is not.
        """
        try:
            async with self.readers.connect() as tx:
                found = tuple((await tx.exec_driver_sql(_IDENTITY, (migrations.VERSION_TABLE,))).one())
        except DBAPIError as error:
            raise self.refusal(error) or self._unusable(error) from error
        if self._identity not in (None, found):
            raise RegisterError(f"The register {self.place} was replaced while Muster was running. Restart Muster.")
        self._identity = found

    # --- connections -------------------------------------------------------------------------------------------

    def _engine(self, *, read_only: bool) -> AsyncEngine:
        async def connect() -> Any:
            return await self._connect(
                alone=self._alone,
                default_transaction_isolation="repeatable read",
                default_transaction_read_only="on" if read_only else "off",
                lock_timeout=_milliseconds(TURN_LIMIT),
                statement_timeout=_milliseconds(STATEMENT_LIMIT),
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

    async def _connect(self, *, alone: bool = False, **settings: str) -> Any:
        """A connection of the driver that holds the sign that the register is open, by it alone or by many."""
        address = self._address
        try:
            password = None if self._password is None else await asyncio.to_thread(self._password)
        except MusterError as error:
            raise RegisterError(f"The password of the register {self.place} cannot be had. {error}") from error
        try:
            connection = await asyncpg.connect(
                host=address.host or "/run/postgresql",
                port=address.port,
                user=address.user,
                password=password,
                database=address.database,
                ssl=_tls(address),
                timeout=CONNECT_LIMIT,
                command_timeout=ANSWER_LIMIT,
                server_settings={
                    "application_name": f"muster {self._stamps['host']}/{os.getpid()}"[:63],
                    "search_path": SCHEMA,
                    "jit": "off",
                    **settings,
                },
            )
            try:
                await (self._enter_alone(connection) if alone else self._enter(connection))
            except BaseException:
                connection.terminate()
                raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
            raise self._not_connected(error) from error
        return connection

    async def _enter(self, connection: Any) -> None:
        if not await connection.fetchval(_ENTER, _OPEN):
            raise RegisterError(
                f"The register {self.place} is being copied (`muster register copy`). Try again when that is done."
            )

    async def _enter_alone(self, connection: Any) -> None:
        deadline = asyncio.get_running_loop().time() + _ALONE_LIMIT
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _OPEN):
            if asyncio.get_running_loop().time() > deadline:
                others = ", ".join(row["name"] for row in await connection.fetch(_OTHERS, _OPEN))
                raise RegisterError(
                    f"The register {self.place} is open in another process: {others or 'one that just went'}. Stop "
                    "that first (`muster down`)."
                )
            await asyncio.sleep(0.05)  # for connections that are being closed

    def _unusable(self, error: Exception) -> RegisterError:
        reason = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        return RegisterError(f"The register {self.place} cannot be used: {_words(reason)}.")

    def _not_connected(self, error: Exception) -> RegisterError:
        if isinstance(error, asyncpg.PostgresError):
            return refusal(self.place, error.sqlstate, _words(error)) or self._unusable(error)
        if isinstance(error, ssl.SSLError):
            return RegisterError(
                f"The register {self.place} could not prove who it is: {error}. Name the authority that vouches for it "
                "(sslrootcert=PATH), or mend its certificate."
            )
        reason = f"no answer within {CONNECT_LIMIT:.0f} s" if isinstance(error, TimeoutError) else _words(error)
        return away(self.place, reason)

    def _mind_silence(self, context: ExceptionContext) -> BaseException | None:
        """Called by SQLAlchemy for every error on an open connection; those of the network are not the database's."""
        error = context.original_exception
        if not isinstance(error, OSError):  # of which TimeoutError is one
            return None
        context.is_disconnect = True
        reason = f"no answer within {ANSWER_LIMIT:.0f} s" if isinstance(error, TimeoutError) else _words(error)
        return away(self.place, reason)

    # --- the first look ----------------------------------------------------------------------------------------

    def _plain_engine(self) -> AsyncEngine:
        """For a server of which nothing is known yet, so without what old versions do not know."""

        async def connect() -> Any:
            return await self._connect(
                default_transaction_isolation="read committed", lock_timeout=_milliseconds(TURN_LIMIT)
            )

        return create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)

    async def _prepare(self) -> None:
        """Make sure that the schema is there, with the tables of this program."""
        engine = self._plain_engine()
        try:
            async with engine.connect() as tx:
                await self._check_server(tx)
                await tx.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
                if await self._revision(tx) != migrations.head():
                    await self._migrate(tx)
            async with engine.connect() as tx:
                await self._check_tables(tx)
        except DBAPIError as error:
            raise self.refusal(error) or self._unusable(error) from error
        finally:
            await engine.dispose()

    async def _check_server(self, tx: AsyncConnection) -> str:
        """Make sure that the server can hold a register. Returns its version."""
        version, name, encoding, standby = tuple((await tx.exec_driver_sql(_SERVER)).one())
        if version < OLDEST:
            raise RegisterError(
                f"The register {self.place} is on PostgreSQL {name}; Muster needs {OLDEST // 10_000} or newer."
            )
        if encoding != "UTF8":
            raise RegisterError(
                f"The register {self.place} has the encoding {encoding}, which cannot hold all that people write. "
                "Create a database with ENCODING 'UTF8'."
            )
        if standby:
            raise RegisterError(f"The register {self.place} is a standby, which takes no writes. Name the primary.")
        return str(name)

    async def _revision(self, tx: AsyncConnection) -> str | None:
        """The revision of the schema; None when no table was made yet."""
        tables = set((await tx.execute(_TABLES, {"schema": SCHEMA})).scalars())
        if migrations.VERSION_TABLE not in tables:
            if tables:
                raise RegisterError(
                    f"The schema {SCHEMA} of {self.place} is another program's (it has the table {min(tables)!r}). "
                    "Name another database for the register."
                )
            return None
        revision = await tx.scalar(text(f"SELECT version_num FROM {SCHEMA}.{migrations.VERSION_TABLE}"))  # noqa: S608 (constants)
        if revision is not None and revision not in migrations.known():
            raise RegisterError(
                f"The register {self.place} was written by a newer Muster: its schema is {revision!r}, this program "
                f"knows them up to {migrations.head()!r}. Install the newer Muster again, or restore a backup from "
                "before it."
            )
        return None if revision is None else str(revision)

    async def _migrate(self, tx: AsyncConnection) -> None:
        """Make or change the tables, in the transaction `tx`."""
        if not await tx.scalar(text("SELECT to_regnamespace(:schema) IS NOT NULL"), {"schema": SCHEMA}):
            await tx.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
        await tx.run_sync(_apply)
        with around(migrations.MIGRATE):
            await tx.commit()

    async def _check_tables(self, tx: AsyncConnection) -> None:
        missing = set(metadata.tables) - set((await tx.execute(_TABLES, {"schema": SCHEMA})).scalars())
        if missing:
            raise RegisterError(
                f"The register {self.place} lacks the table {min(missing)!r}. Restore it from a backup."
            )
        for table in metadata.tables:
            # The first page of each: what cannot be read or is not allowed is better known now.
            await tx.exec_driver_sql(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608 (names of ours)


#: Sets the sign that the register is open, and what a commit promises where the server would promise less.
_ENTER = """
    SELECT pg_try_advisory_lock_shared($1),
        CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END
"""

#: Who else has the register open; the lock's number is split in two (the manual, section "pg_locks").
_OTHERS = """
    SELECT DISTINCT a.application_name AS name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = $1
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

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


def _apply(connection: Connection) -> None:
    migrations.apply(connection)
    for statement in connection.execute(_COLLATE, {"schema": SCHEMA}).scalars().all():
        connection.exec_driver_sql(statement)


def _still_open(connection: Any, _record: object, _proxy: object) -> None:
    """Called by SQLAlchemy for every connection that it takes from its pool; one that was lost is made anew."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("the server closed it")


def _tls(address: ServerAddress) -> ssl.SSLContext | bool:
    if address.sslmode == "disable":
        return False
    try:
        context = ssl.create_default_context(cafile=address.sslrootcert)
    except OSError as error:
        raise RegisterError(f"The file {address.sslrootcert} (sslrootcert) cannot be read: {error}.") from error
    if address.sslmode == "require":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def _words(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
