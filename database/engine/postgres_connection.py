"""The way into a PostgreSQL server, and what its errors mean.

Whoever has a register open holds a share of an advisory lock, as each connection does of an SQLite file; who needs it
alone takes the whole of it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import NullPool
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from core.errors import MusterError, RegisterAway, RegisterError
from database.engine.dsn import ServerAddress
from database.engine.postgres_error_codes import away, refusal

#: All tables are in this schema, and no other is looked into.
SCHEMA = "muster"

#: Seconds: to connect, and for an answer to a statement.
CONNECT_LIMIT = 10.0
ANSWER_LIMIT = 25.0

#: Where Debian, Red Hat and others have the server's socket.
_SOCKETS = "/run/postgresql"

#: Seconds for which others may still be closing a register that is wanted alone.
_ALONE_LIMIT = 2.0

#: The advisory lock.
_OPEN = 7_202_602

#: Takes a share, and sets what a commit promises where the server would promise less.
_ENTER = """
    SELECT pg_try_advisory_lock_shared($1),
        CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END
"""

#: Who else has a share; the lock's number is split in two (the manual, section "pg_locks").
_OTHERS = """
    SELECT DISTINCT a.application_name AS name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = $1
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class ServerAccess:
    """Opens connections to one database, and explains why it cannot."""

    def __init__(self, address: ServerAddress, password: Callable[[], str] | None, name: str) -> None:
        """Args:
        address: where the database is.
        password: fetches the password, each time again; None: whatever else lets us in.
        name: by which an administrator of the server knows us.
        """
        self.place = str(address)
        self._address = address
        self._password = password
        self._name = name

    async def connect(self, *, alone: bool = False, patient: bool = False, **settings: str) -> Any:
        """Return a connection of the driver.

        Args:
            alone: no one else may have the register open, now or until it is closed.
            patient: statements may take as long as they do.
            settings: the session's, by the server's names.

        Raises:
            RegisterError: there is none to be had.
        """
        address = self._address
        try:
            password = None if self._password is None else await asyncio.to_thread(self._password)
        except MusterError as error:
            raise RegisterError(f"The password of the register {self.place} cannot be had. {error}") from error
        try:
            connection = await asyncpg.connect(
                host=address.host or _SOCKETS,
                port=address.port,
                user=address.user,
                password=password,
                database=address.database,
                ssl=_tls(address),
                timeout=CONNECT_LIMIT,
                command_timeout=None if patient else ANSWER_LIMIT,
                server_settings={
                    "application_name": f"muster {self._name}/{os.getpid()}"[:63],
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

    @asynccontextmanager
    async def engine(self, *, alone: bool = False, **settings: str) -> AsyncIterator[AsyncEngine]:
        """An engine for one piece of work that takes its time, without settings that old versions do not know.

        Args:
            alone: no one else may have the register open, now or until it is closed.
            settings: of each session, by the server's names.

        Raises:
            RegisterError: the database refused something within the block.
        """

        async def connect() -> Any:
            return await self.connect(
                alone=alone, patient=True, default_transaction_isolation="read committed", **settings
            )

        engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
        try:
            yield engine
        except DBAPIError as error:
            raise self.unusable(error) from error
        finally:
            await engine.dispose()

    async def lets_in(self) -> bool:
        """Return whether we get in at all."""
        try:
            (await self.connect()).terminate()
        except RegisterError:
            return False
        return True

    def refusal(self, error: BaseException) -> RegisterError | None:
        """Return what to say of an error; None when it is none of the database's."""
        original: Any = error.orig if isinstance(error, DBAPIError) else error
        cause = original.__cause__ if isinstance(original, Exception) else None
        if broke_off(original):
            return away(self.place, "the server ended the connection")
        if isinstance(cause, asyncpg.InterfaceError):
            # The driver's own: a value that it cannot send, or a connection that was lost before it could.
            lost = "is closed" in str(cause) and not isinstance(cause, ValueError)
            return away(self.place, str(cause)) if lost else None
        code = getattr(original, "sqlstate", None)
        return None if code is None else refusal(self.place, code, _words(cause or original))

    def unusable(self, error: DBAPIError) -> RegisterError:
        """Return what to say of an error at a moment at which nothing may fail."""
        return self.refusal(error) or RegisterError(
            f"The register {self.place} cannot be used: {_words(error.orig or error)}."
        )

    def silence(self, error: OSError, limit: float | None = None) -> RegisterAway:
        """Return what to say when the network failed, or no one answered within `limit` seconds."""
        waited = ANSWER_LIMIT if limit is None else limit
        return away(self.place, f"no answer within {waited:g} s" if isinstance(error, TimeoutError) else _words(error))

    async def _enter(self, connection: Any) -> None:
        deadline = asyncio.get_running_loop().time() + _ALONE_LIMIT
        while not await connection.fetchval(_ENTER, _OPEN):
            if asyncio.get_running_loop().time() > deadline:
                raise RegisterError(
                    f"The register {self.place} is being copied (`muster register copy`). Try again when that is done."
                )
            await asyncio.sleep(0.05)  # for one who was alone there and was just killed

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

    def _not_connected(self, error: Exception) -> RegisterError:
        if isinstance(error, asyncpg.PostgresError):
            reason = _words(error)
            return refusal(self.place, error.sqlstate, reason) or RegisterError(
                f"The register {self.place} cannot be used: {reason}."
            )
        if isinstance(error, ssl.SSLError):
            return RegisterError(
                f"The register {self.place} could not prove who it is: {error}. Name the authority that vouches for it "
                "(sslrootcert=PATH), or mend its certificate."
            )
        return self.silence(error, CONNECT_LIMIT) if isinstance(error, OSError) else away(self.place, _words(error))


def broke_off(error: BaseException) -> bool:
    """Return whether the driver was given something to do between the server's last word and the end of the
    connection."""
    return isinstance(error.__cause__, asyncpg.InternalClientError)


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


def _words(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
