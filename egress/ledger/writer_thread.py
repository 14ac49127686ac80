"""The only thread that writes the ledger.

Jobs that arrive while a group is being committed form the next group: a slow disk makes groups larger, not queues
longer. A group is handed over at the end of a round of the event loop. So it includes the jobs of callers that the
previous commit resumed: a transaction costs as much as some ten rows. Under load, groups keep a minimum interval for
the same reason; a single caller never waits for it. When a group is on disk, all its callers are notified at once.

The disk may accept no writes: it is full or read-only, or another process locks the file. Then all waiting callers get
an error, and the group is rolled back. What has already happened (settlements, denials) is owed. It is kept, and
written first once the disk accepts writes; the thread retries repeatedly.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import structlog

from core.crash_points import around, declare
from egress.ledger import batch_insert, hourly_aggregates
from egress.ledger.model import NOT_WRITTEN, LedgerUnwritable, Observation
from egress.ledger.table_rows import OBSERVED, Settlement, estimated

COMMIT: Final = declare("ledger.commit")

_log = structlog.get_logger(__name__)

#: The maximum number of entries that are not in the sums.
SUM_EVERY: Final = 2000
#: After a group of at least this many jobs, the next one starts after the interval below. With 16 connections, a longer
#: interval loses more requests per second by waiting than larger groups save.
_MANY: Final = 4
_PACE_S: Final = 0.0015
#: Seconds until a failed write is tried again, by the number of failures.
RETRY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)


class LedgerHead(NamedTuple):
    """The last seq of each of the ledger's three streams."""

    entries: int
    actions: int
    observations: int


class ObservedQuotas(NamedTuple):
    """Quotas that providers reported; only the last report of a window is kept."""

    observations: tuple[Observation, ...]


class WriterTask(NamedTuple):
    """A function to run within the transaction, after all earlier jobs."""

    act: Callable[[sqlite3.Connection], Any]
    owed: bool
    """Whether it is done later if it cannot be done now."""


What: TypeAlias = "Settlement | ObservedQuotas | WriterTask"


class WriteJob(NamedTuple):
    what: What
    done: asyncio.Future[Any] | None
    """None: no caller waits for it."""


_Told: TypeAlias = "tuple[asyncio.Future[Any], Any]"
_T = TypeVar("_T")


_OBSERVATION: Final = (
    f"INSERT OR REPLACE INTO observations ({', '.join(map(repr, OBSERVED))}, change)"  # noqa: S608
    f" VALUES ({', '.join('?' * (len(OBSERVED) + 1))})"
)
_observed: Final = attrgetter(*OBSERVED)


class LedgerWriter:
    """Takes jobs from the event loop, and reports their results.

    Args:
        connection: the connection for writing; from now on only this thread uses it.
        loop: the event loop of the futures.
        on_committed: called in the loop after each group, before any waiting caller continues.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        loop: asyncio.AbstractEventLoop,
        *,
        on_committed: Callable[[LedgerHead], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._loop = loop
        self._on_committed = on_committed
        self._clock = clock
        self._gathered: list[WriteJob] = []
        self._busy = False
        self._next_at = 0.0
        self._groups: queue.SimpleQueue[list[WriteJob] | None] = queue.SimpleQueue()
        self._owed: list[WriteJob] = []
        self._failures = 0
        self._retry_at = 0.0
        self._head = LedgerHead(
            *connection.execute(
                "SELECT (SELECT coalesce(max(seq), 0) FROM entries), (SELECT coalesce(max(seq), 0) FROM actions),"
                " (SELECT coalesce(max(change), 0) FROM observations)"
            ).fetchone()
        )
        (self._summed,) = connection.execute("SELECT value FROM meta WHERE key = 'summed'").fetchone()
        self.trouble: str | None = None
        """Why nothing can be written now, as SQLite says it."""
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._ended = loop.create_future()

    @property
    def head(self) -> LedgerHead:
        """The last positions of the ledger. Read it before `start`; later, `on_committed` receives it."""
        return self._head

    def start(self) -> None:
        self._thread.start()

    def put(self, what: What) -> asyncio.Future[Any]:
        """Queue a job; the future is done when the job is on disk.

        A settlement's result is the seq of its entry. The job runs even if no caller awaits the future.
        """
        done: asyncio.Future[Any] = self._loop.create_future()
        self._put(WriteJob(what, done))
        return done

    def put_unheard(self, what: What) -> None:
        """Queue a job without a future."""
        self._put(WriteJob(what, None))

    async def close(self) -> None:
        """Write all queued jobs if possible, and close the file."""
        if self._gathered:
            self._hand_over()
        self._groups.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _put(self, job: WriteJob) -> None:
        self._gathered.append(job)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        group, self._gathered = self._gathered, []
        if group:
            if len(group) >= _MANY:
                self._next_at = self._loop.time() + _PACE_S
            self._groups.put(group)
        else:
            self._busy = False

    def _told(self, told: Sequence[_Told], head: LedgerHead) -> None:
        self._on_committed(head)
        _resolve(told)
        # Resumed callers run first: their jobs belong to the next group.
        if self._loop.time() < self._next_at:
            self._loop.call_at(self._next_at, self._hand_over)
        else:
            self._loop.call_soon(self._hand_over)

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                try:
                    group = self._groups.get(timeout=None if self.trouble is None else self._patience())
                except queue.Empty:
                    self._write([])
                    with contextlib.suppress(RuntimeError):
                        self._loop.call_soon_threadsafe(self._on_committed, self._head)
                    continue
                if group is None:
                    break
                told = self._write(group)
                with contextlib.suppress(RuntimeError):  # the loop is closed: no one is left who waits
                    self._loop.call_soon_threadsafe(self._told, told, self._head)
            if self._owed:
                self._attempt([])
            with contextlib.suppress(sqlite3.Error):
                self._transact(hourly_aggregates.advance)
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            # Even if the thread fails, nothing is admitted from then on.
            self.trouble = "it is closed"
            self._connection.close()
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_resolve, [(self._ended, None)])

    def _patience(self) -> float:
        return max(0.0, self._retry_at - time.monotonic())

    def _write(self, jobs: Sequence[WriteJob]) -> list[_Told]:
        """Write a group, or retry the owed jobs if it is empty; return the results for waiting callers."""
        if self.trouble is not None:
            # Only owed jobs justify a retry; others are refused meanwhile.
            told = self._refuse(jobs)
            return told if self._patience() > 0 else told + self._attempt([])
        return self._attempt(jobs)

    def _attempt(self, jobs: Sequence[WriteJob]) -> list[_Told]:
        group = [*self._owed, *jobs] if self._owed else jobs
        try:
            results = self._commit(group)
        except Exception as error:
            return self._fail(error, jobs) if _of_storage(error) else self._attempt_singly(group)
        self._succeed()
        return [(job.done, result) for job, result in zip(group, results, strict=True) if job.done is not None]

    def _attempt_singly(self, group: Sequence[WriteJob]) -> list[_Told]:
        """Write each job separately: one of them is invalid, and must not affect the others."""
        self._owed.clear()
        told: list[_Told] = []
        for place, job in enumerate(group):
            result: Any
            try:
                result = self._commit_or_estimate(job)
            except Exception as error:
                if _of_storage(error):
                    return told + self._fail(error, group[place:])
                result = error
            if job.done is not None:
                told.append((job.done, result))
        self._succeed()
        return told

    def _commit_or_estimate(self, job: WriteJob) -> Any:
        """Write one job. A settlement that cannot be written is replaced by its reservation as an estimate."""
        try:
            return self._commit([job])[0]
        except Exception as error:
            if _of_storage(error) or not isinstance(job.what, Settlement):
                raise
            _log.exception("settlement_unwritable", id=job.what.reservation.id)
            estimate = estimated(job.what.reservation, self._clock(), NOT_WRITTEN)
            return self._commit([WriteJob(estimate, None)])[0]

    def _succeed(self) -> None:
        self._owed.clear()
        self._failures = 0
        self.trouble = None

    def _fail(self, error: Exception, jobs: Sequence[WriteJob]) -> list[_Told]:
        self.trouble = str(error)
        self._retry_at = time.monotonic() + RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
        return self._refuse(jobs)

    def _refuse(self, jobs: Sequence[WriteJob]) -> list[_Told]:
        """Fail these jobs; those that have already happened are owed."""
        for job in jobs:
            match job.what:
                case Settlement() | WriterTask(owed=True):
                    self._owed.append(WriteJob(job.what, None))
        return [(job.done, unwritable(self.trouble)) for job in jobs if job.done is not None]

    def _commit(self, group: Sequence[WriteJob]) -> list[Any]:
        """Commit one transaction, and return the result of each job."""
        before = self._head, self._summed
        try:
            with around(COMMIT):
                if self._is_one_statement(group):
                    self._leave_transaction()
                    results = self._apply(self._connection, group)
                else:
                    results = self._transact(lambda connection: self._apply(connection, group))
        except BaseException:
            self._head, self._summed = before
            raise
        return results

    def _is_one_statement(self, group: Sequence[WriteJob]) -> bool:
        """Return whether the group is a single statement, which needs no explicit transaction."""
        return (
            0 < len(group) <= batch_insert.MOST_ROWS
            and all(isinstance(job.what, Settlement) for job in group)
            and self._head.entries + len(group) - self._summed < SUM_EVERY
        )

    def _transact(self, act: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._connection
        self._leave_transaction()
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = act(connection)
            connection.execute("COMMIT")
        except BaseException:
            # A failed commit may or may not have ended the transaction.
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
        return result

    def _leave_transaction(self) -> None:
        """Roll back a transaction whose rollback failed earlier."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _apply(self, connection: sqlite3.Connection, group: Sequence[WriteJob]) -> list[Any]:
        results: list[Any] = []
        rows: list[tuple[Any, ...]] = []
        seen: dict[tuple[str, str, str], tuple[Any, ...]] = {}
        seq, acted, change = self._head
        for job in group:
            what = job.what
            result: Any = None
            if isinstance(what, Settlement):
                seq = result = seq + 1
                rows.append(batch_insert.settled(seq, what))
            elif isinstance(what, ObservedQuotas):
                for each in what.observations:
                    change += 1
                    seen[each.account, each.provider, each.window] = (*_observed(each), change)
            else:
                # The task must see all earlier jobs.
                batch_insert.write(connection, rows)
                rows.clear()
                result = what.act(connection)
                (acted,) = connection.execute("SELECT coalesce(max(seq), 0) FROM actions").fetchone()
            results.append(result)
        batch_insert.write(connection, rows)
        for observation in seen.values():
            connection.execute(_OBSERVATION, observation)
        if not group:
            connection.execute("UPDATE meta SET value = ? WHERE key = 'probed'", (self._clock(),))
        if seq - self._summed >= SUM_EVERY:
            hourly_aggregates.advance(connection)
            self._summed = seq
        self._head = LedgerHead(seq, acted, change)
        return results


def unwritable(trouble: str | None) -> LedgerUnwritable:
    """Return the error for callers while nothing can be written."""
    return LedgerUnwritable(
        f"The egress's ledger cannot be written ({trouble}), so nothing is let through. "
        "Make room on its disk; it is tried again every few seconds."
    )


def _resolve(told: Sequence[_Told]) -> None:
    for future, result in told:
        if future.done():
            continue
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


def _of_storage(error: Exception) -> bool:
    """Return whether the disk or the file caused the error, not the data."""
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError
