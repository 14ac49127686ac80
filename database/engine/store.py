"""The register: one database, opened once per process, written by one transaction at a time.

It is an SQLite file (`database.engine.sqlite`) or a schema on a PostgreSQL server (`database.engine.postgres`). On
both, writers wait for their turn and then see everything that was written before; readers see one moment and wait for
no one. A server can be away: then everything is refused at once, while one task here tries to reach it, ever less
often.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy import Column, Table, event, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from core.async_waits import set_within
from core.backoff import pause
from core.crash_points import Step, around
from core.errors import RegisterAway, RegisterConflict, RegisterError, RegisterFull
from database.engine import dsn as addresses
from database.engine.fencing import Fence
from database.engine.sqlite import SINGLE_STATEMENTS, DatabaseFile
from database.engine.sqlite_driver import execute_along

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

__all__ = ["RegisterAway", "RegisterFull", "Store", "insert_once", "next_place"]

#: How often a transaction is done in all when the database undoes it in favour of others, and the pauses between.
TRIES = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
#: The pauses between attempts to reach a server that is away, seconds.
FIRST_LOOK, LONGEST_LOOK = 0.2, 10.0

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Database(Protocol):
    """What a kind of database has to know."""

    place: str
    """Where it is, as it may be shown."""
    writers: AsyncEngine
    readers: AsyncEngine

    def check(self) -> None: ...
    async def take_turn(self, tx: AsyncConnection) -> None: ...
    def refusal(self, error: BaseException) -> RegisterError | None: ...
    async def look(self) -> None: ...
    async def shrink(self) -> bool: ...
    async def close(self) -> None: ...


class Store:
    """The open register. Every row that is written through it is stamped with its tenant and host."""

    def __init__(self, database: Database, *, clock: Callable[[], float], rng: Callable[[], float]) -> None:
        self._database = database
        self._failures: WeakKeyDictionary[object, Exception] = WeakKeyDictionary()
        event.listen(database.writers.sync_engine, "handle_error", self._note_failure)
        self._clock = clock
        self._rng = rng
        self._turn = asyncio.Lock()
        self._closed = False
        self._outage: RegisterAway | None = None
        self._looking: asyncio.Task[None] | None = None
        self._present = asyncio.Event()
        self._present.set()
        self.fence: Fence | None = None
        """Who opened it writes only while this stands; None: nobody else is to be feared."""
        self.on_commit: Callable[[], None] = _nothing
        """Called after each commit. It must be quick."""
        self.returned = asyncio.Event()
        """Set when the server came back after an outage; whoever waits for that clears it."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        password: Callable[[], str] | None = None,
        tenant_id: str = "default",
        host: str | None = None,
        home: str | None = None,
        alone: bool = False,
        clock: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> Store:
        """Open the register at `url` (`database.engine.dsn`), made or migrated where needed.

        Args:
            url: where it is.
            password: fetches the password for a server, for each connection again.
            tenant_id: whose rows are written.
            host: by which machine; this one by default.
            home: by which installation.
            alone: no one else may have it open, now or until it is closed.
            clock: seconds since the epoch.
            rng: a number from 0 up to 1, for jitter.

        Raises:
            RegisterError: what is there cannot be used; it is left as it was found.
        """
        address = addresses.parse(url)
        stamps = {"tenant_id": tenant_id, "host": host or socket.gethostname(), "home": home}
        database: Database
        if isinstance(address, addresses.FileAddress):
            database = await DatabaseFile.open(address.file, stamps, alone=alone)
        else:
            from database.engine.postgres import DatabaseServer  # its driver is loaded only where it is used

            database = await DatabaseServer.open(address, password, stamps, alone=alone)
        return cls(database, clock=clock, rng=rng)

    @property
    def is_shared(self) -> bool:
        """Whether it is on a server, where several machines reach it."""
        return self._database.writers.dialect.name == "postgresql"

    def in_time(self) -> bool:
        """Return whether what is done now outside the register is still done by who may write in it."""
        return self.fence is None or self.fence.in_time()

    @property
    def place(self) -> str:
        """Where the register is, as it may be shown."""
        return self._database.place

    @property
    def file(self) -> Path | None:
        """The register's file; None where it is on a server."""
        return self._database.file if isinstance(self._database, DatabaseFile) else None

    async def close(self) -> None:
        """Wait for the transaction that is being written, then close. Safe to call twice."""
        async with self._turn:
            self._closed = True
            if self._looking is not None:
                self._looking.cancel()
                await asyncio.wait({self._looking})
            await self._database.close()

    # --- transactions ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def write(self, step: Step) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed when the block ends, undone when it raises.

        A server that goes away in the middle of the commit leaves open whether the block stands, as a crash of ours
        does right after it; so what a block writes must bear being written again.

        Raises:
            RegisterFull: the disk is full; nothing of the block stands.
            RegisterAway: the server does not answer.
            RegisterConflict: it was undone in favour of another; `transact` would do it again.
            RegisterFenced: it is fenced, and someone else has acquired the lease.
            RegisterError: the database could not be used; nothing of the block stands.
        """
        async with self._turn:
            self._check()
            fence = self.fence
            if fence is not None:
                fence.refuse_if_lost()
            with self._explained():
                async with self._begun() as tx:
                    with self._whole(tx):
                        if fence is not None:
                            await fence.check(tx)
                        yield tx
                    with around(step):
                        await tx.commit()
        self.on_commit()

    async def transact(self, step: Step, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do `work` in one transaction like `write`, and again where the database undid it in favour of another."""
        for tries in range(1, TRIES + 1):
            try:
                async with self.write(step) as tx:
                    return await work(tx)
            except RegisterConflict as conflict:
                if tries == TRIES:
                    raise
                _log.info("register.conflict", step=step, tries=tries, reason=str(conflict))
            await asyncio.sleep(pause(tries, first=FIRST_PAUSE, longest=LONGEST_PAUSE, rng=self._rng))
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def read(self, *, snapshot: bool = True) -> AsyncIterator[AsyncConnection]:
        """A snapshot to read from.

        Args:
            snapshot: whether all statements see the same moment. For a single statement it is faster without.

        Raises:
            RegisterAway: the server does not answer.
            RegisterError: the database could not be used.
        """
        self._check()
        with self._explained():
            async with self._database.readers.connect() as tx:
                if not snapshot:
                    await tx.execution_options(**{SINGLE_STATEMENTS: True})
                yield tx

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[AsyncConnection]:
        """A transaction whose turn it is. Nothing was done in it yet, so what goes wrong until then is tried again."""
        for tries in range(1, TRIES + 1):
            async with self._database.writers.connect() as tx:
                try:
                    await self._database.take_turn(tx)
                except DBAPIError as error:
                    refusal = self._database.refusal(error)
                    # A connection can have been lost since it was last used; with a new one it is known.
                    lost = isinstance(refusal, RegisterAway) and tries == 1
                    if tries == TRIES or not (lost or isinstance(refusal, RegisterConflict)):
                        raise
                else:
                    yield tx
                    return
            await asyncio.sleep(pause(tries, first=FIRST_PAUSE, longest=LONGEST_PAUSE, rng=self._rng))

    def _check(self) -> None:
        if self._closed:
            raise RegisterError(f"{self.place} was closed: Muster is stopping.")
        if self._outage is not None:
            raise RegisterAway(str(self._outage))
        self._database.check()

    @contextmanager
    def _whole(self, tx: AsyncConnection) -> Iterator[None]:
        """Raise the first error of a statement in the block, even where the block looked away from it.

        With that error the server undid all of the transaction; what fails after it is no news, and a commit none.
        """
        try:
            yield
        except SQLAlchemyError as later:
            first = self._failures.get(tx.sync_connection)
            if first is None or first is later:
                raise
            raise first from later
        if (first := self._failures.get(tx.sync_connection)) is not None:
            raise first

    def _note_failure(self, context: ExceptionContext) -> None:
        """Called by SQLAlchemy for every error of a statement."""
        if context.connection is not None and context.sqlalchemy_exception is not None:
            self._failures.setdefault(context.connection, context.sqlalchemy_exception)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except RegisterAway as refusal:
            raise self._went_away(refusal) from refusal
        except PoolTimeout as error:
            raise RegisterError(f"The register {self.place} is too slow: all its connections are in use.") from error
        except (DBAPIError, sqlite3.Error) as error:
            refusal_ = self._database.refusal(error)
            if refusal_ is None:
                raise
            raise (self._went_away(refusal_) if isinstance(refusal_, RegisterAway) else refusal_) from error

    # --- outages -----------------------------------------------------------------------------------------------

    async def shrink(self) -> bool:
        """Give a little of what is not needed any more back to the disk; return whether there is more.

        Raises:
            RegisterError: the database could not be used.
        """
        async with self._turn:
            self._check()
            with self._explained():
                return await self._database.shrink()

    async def rest(self, seconds: float) -> None:
        """Pause before trying again what was refused: so long, or until the server is back if that is sooner."""
        if self._outage is None:
            await asyncio.sleep(seconds)
            return
        await set_within(self._present, seconds)

    def _went_away(self, refusal: RegisterAway) -> RegisterAway:
        """Return what to say from now on, while one task tries to reach the server."""
        if self._outage is None and not self._closed:
            _log.error("register.away", reason=str(refusal))
            self._present.clear()
            since = f"{datetime.fromtimestamp(self._clock(), UTC):%Y-%m-%d %H:%M:%S} UTC"
            promise = f"It is away since {since}; nothing is lost, and when it is back, Muster goes on."
            self._outage = RegisterAway(f"{refusal} {promise}")
            self._looking = asyncio.create_task(self._look_again(promise), name="register")
        return RegisterAway(str(self._outage or refusal))

    async def _look_again(self, promise: str) -> None:
        """Try to reach the server until it is back."""
        failures = 0
        while self._outage is not None:
            failures += 1
            await asyncio.sleep(pause(failures, first=FIRST_LOOK, longest=LONGEST_LOOK, rng=self._rng))
            try:
                await self._database.look()
            except Exception as error:
                _log.info("register.still_away", failures=failures, reason=str(error))
                self._outage = RegisterAway(f"{error} {promise}")
            else:
                self._outage = None
        _log.info("register.back", failures=failures)
        self._present.set()
        self.returned.set()


def _nothing() -> None:
    pass


async def insert_once(tx: AsyncConnection, table: Table, **values: Any) -> bool:
    """Insert a row unless one with its key is there. Says whether the row is new."""
    return (await tx.execute(insert_into(tx, table).on_conflict_do_nothing(), values)).rowcount == 1


async def upsert(tx: AsyncConnection, table: Table, **values: Any) -> None:
    """Insert a row, or change the one with its key."""
    put = insert_into(tx, table).values(**values)
    changed = {name: put.excluded[name] for name in values}
    await execute_along(tx, put.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed))


def insert_into(tx: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return the database's own insert, which can say what happens to a row whose key is there."""
    if tx.dialect.name != "postgresql":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # loaded only where it is used: 40 ms

    return postgresql.insert(table)


async def next_place(tx: AsyncConnection, counter: Column[int]) -> int:
    """Return a number that no row has had yet, behind all that have one. `counter` is a key that counts up."""
    if tx.dialect.name == "postgresql":
        sequence = func.pg_get_serial_sequence(counter.table.name, counter.name)
        return cast("int", await tx.scalar(select(func.nextval(sequence))))
    last: int | None = await tx.scalar(select(func.max(counter)))
    return (last or 0) + 1
