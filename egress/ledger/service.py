"""The ledger's interface for the event loop."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from core import sqlite_vacuum
from core.secret_values import SecretValues
from egress.ledger import hourly_aggregates, recovery, reservation_log, table_rows
from egress.ledger.model import Action, LedgerEntry, LedgerUnwritable, Observation
from egress.ledger.page_reader import PastRequest, Reader
from egress.ledger.table_rows import Denial, Reservation, Settlement
from egress.ledger.writer_thread import LedgerHead, LedgerWriter, ObservedQuotas, WriterTask, unwritable
from egress.settings import AgentRegistration

_log = structlog.get_logger(__name__)

#: How long copied rows are kept, in seconds; sums are kept forever.
KEEP_S: Final = 35 * 86400.0
_PRUNE_EVERY_S: Final = 3600.0
_PRUNE_ROWS: Final = 5000
#: How long a reservation may be only in the kernel's cache. A sync for each would make every request wait twice for the
#: disk.
SYNC_S: Final = 0.1
#: The delay before the next attempt after a failed write, even without new requests.
PROBE_S: Final = 1.0

_T = TypeVar("_T")


class UsageLedger:
    """One host's ledger, for use in the event loop.

    Whatever a method returns or awaits is then durable, with the exception that `reserve` describes. Methods that write
    raise `LedgerUnwritable` if the disk accepts no writes.
    """

    def __init__(
        self,
        writer: LedgerWriter,
        reader: Reader,
        opened: recovery.RecoveredLedger,
        clock: Callable[[], float],
        secrets: SecretValues | None = None,
    ) -> None:
        self._writer = writer
        self._intents = opened.intents
        self._intents_trouble: str | None = None
        self._syncing: asyncio.TimerHandle | None = None
        self._probing: asyncio.TimerHandle | None = None
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._reader = reader
        self._clock = clock
        self._secrets = SecretValues() if secrets is None else secrets
        self._nonce = opened.nonce
        self._numbers = 0
        self._actions = 0
        self._head = writer.head
        self._news: asyncio.Event | None = None
        self._pruned_at = 0.0
        self.id = opened.ledger
        """Of this file, for ever: positions in another one mean nothing here."""
        self.incarnation = opened.incarnation
        self.recovered = opened.recovered
        """Requests that were under way when the egress before this one ended."""
        self.agents = opened.agents
        """Whom this egress knew when it ended."""
        self.denials = opened.denials

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        long: int = reservation_log.LONG,
        secrets: SecretValues | None = None,
    ) -> UsageLedger:
        """Open or create the file, and enter the previous egress's running requests as estimates.

        `long` is the size in bytes at which a new reservation file starts. Text in `secrets` never appears in a row.

        Raises:
            LedgerUnusable: the file cannot be opened as it is.
        """
        opened = await asyncio.to_thread(recovery.open_ledger, path, clock(), long)
        ledger: UsageLedger
        writer = LedgerWriter(
            opened.connection,
            asyncio.get_running_loop(),
            on_committed=lambda head: ledger._committed(head),
            clock=clock,
        )
        ledger = cls(writer, Reader(path), opened, clock, secrets)
        writer.start()
        return ledger

    async def close(self) -> None:
        """Write pending rows if possible, and close the file."""
        self._closing = True
        for timer in (self._syncing, self._probing):
            if timer is not None:
                timer.cancel()
        await self._reader.close()
        await self._writer.close()
        self._intents.close()

    # --- requests -------------------------------------------------------------------------------------------------

    @property
    def unwritable(self) -> LedgerUnwritable | None:
        """Why nothing can be written now; None: no problem is known."""
        trouble = self._writer.trouble or self._intents_trouble
        return None if trouble is None else unwritable(trouble)

    def next_number(self) -> tuple[int, str]:
        """Return a number and an id for a new reservation; the id is unique across all ledgers."""
        self._numbers = number = self._numbers + 1
        return number, f"{self._nonce}-{number}"

    def reserve(self, reservation: Reservation) -> None:
        """Save the assumed usage of a request before it leaves: if the egress ends, this becomes its entry.

        When it returns, the end of this process cannot lose it. A power failure can, for a tenth of a second.

        Raises:
            LedgerUnwritable: the disk accepts no writes, now or recently.
        """
        if self._writer.trouble is not None:
            raise unwritable(self._writer.trouble)
        try:
            self._intents.begin(reservation)
        except OSError as error:
            raise unwritable(self._not_kept(error)) from None
        self._intents_trouble = None
        if self._syncing is None:
            self._syncing = self._loop.call_later(SYNC_S, self._sync)

    def tell(self, reservation: Reservation) -> None:
        """Save the assumed usage of a running request after its stream reported more.

        If the egress ends, this becomes the request's entry. On a full disk, the earlier assumption stays.
        """
        try:
            self._intents.tell(reservation)
        except OSError as error:
            _log.warning("told_not_kept", id=reservation.id, error=error.strerror or str(error))

    def settle(self, settlement: Settlement) -> asyncio.Future[int]:
        """Write the entry of an ended request. The future is done once the entry is durable, and has its seq.

        If the write fails, the entry is owed, and is written as soon as the disk accepts it. This happens even if no
        caller awaits the future.
        """
        self._intents.end(settlement.reservation.number)
        masked = self._secrets.masked_text
        model, raw = settlement.model, settlement.raw
        if model is not None and masked(model) is not model:
            settlement = settlement._replace(model=masked(model))
        if raw is not None and masked(raw) is not raw:
            settlement = settlement._replace(raw=masked(raw))
        return self._writer.put(settlement)

    def observe(self, observations: tuple[Observation, ...]) -> None:
        """Save observed quotas soon. Observations that contain a secret are dropped."""
        masked = self._secrets.masked_text
        clean = [
            each
            for each in observations
            if masked(each.window) is each.window and (each.status is None or masked(each.status) is each.status)
        ]
        self._writer.put_unheard(ObservedQuotas(tuple(clean)))

    async def flushed(self) -> None:
        """Wait until all earlier writes are durable."""
        await self._writer.put(WriterTask(lambda _: None, owed=False))

    # --- actions on agents -----------------------------------------------------------------------------------------

    async def act(
        self,
        agent: str,
        action: str,
        *,
        cause: str,
        by: str,
        result: str,
        detail: Mapping[str, Any] | None = None,
        owed: bool = True,
    ) -> Action:
        """Add a row to the audit. If it cannot be written now, it is owed, because the action has already happened."""
        made = self._action(agent, action, cause, by, result, detail)
        return await self._work(lambda connection: _insert_action(connection, made), owed=owed)

    def note(
        self, agent: str, action: str, *, cause: str, by: str, result: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Add a row to the audit, without waiting for the write."""
        made = self._action(agent, action, cause, by, result, detail)
        self._writer.put_unheard(WriterTask(lambda connection: _insert_action(connection, made), owed=True))

    async def deny(self, denial: Denial, *, result: str, detail: Mapping[str, Any] | None = None) -> Action:
        """Save a denial with its audit row. If it cannot be written now, it is owed, because it is already in force."""
        made = self._action(denial.agent, denial.action, denial.cause, denial.by, result, detail, denial.id)

        def write(connection: sqlite3.Connection) -> Action:
            connection.execute("INSERT OR REPLACE INTO denials VALUES (?, ?, ?, ?, ?, ?)", denial)
            return _insert_action(connection, made)

        self.denials[denial.agent] = denial
        return await self._work(write, owed=True)

    async def allow(self, agent: str, action: str, *, cause: str, by: str, id: str = "") -> Action:
        """Remove a denial, with an audit row."""
        made = self._action(agent, action, cause, by, "allowed", None, id)

        def write(connection: sqlite3.Connection) -> Action:
            connection.execute("DELETE FROM denials WHERE agent = ?", (agent,))
            return _insert_action(connection, made)

        done = await self._work(write, owed=False)
        self.denials.pop(agent, None)
        return done

    async def keep_agent(self, registration: AgentRegistration) -> None:
        """Save an agent's registration, so that it is served again after a restart."""
        row = registration.agent, registration.model_dump_json()
        await self._work(
            lambda connection: connection.execute("INSERT OR REPLACE INTO agents VALUES (?, ?)", row), owed=False
        )
        self.agents[registration.agent] = registration

    async def forget_agent(self, name: str) -> None:
        """Delete an agent's registration. Its usage stays."""
        await self._work(lambda connection: connection.execute("DELETE FROM agents WHERE name = ?", (name,)), owed=True)
        self.agents.pop(name, None)

    # --- usage -----------------------------------------------------------------------------------------------------

    async def used_since(self, starts: Sequence[float]) -> dict[float, list[hourly_aggregates.Used]]:
        """Return the usage since each of these times, including all settlements requested before this call."""

        def read(connection: sqlite3.Connection) -> dict[float, list[hourly_aggregates.Used]]:
            hourly_aggregates.advance(connection)
            return {start: hourly_aggregates.since(connection, start) for start in starts}

        result: dict[float, list[hourly_aggregates.Used]] = await self._writer.put(WriterTask(read, owed=False))
        return result

    async def learned(self, limit: int) -> list[PastRequest]:
        """Return the provider-reported usage of recent requests, oldest first."""
        return await self._reader.learned(limit)

    # --- copying ---------------------------------------------------------------------------------------------------

    @property
    def head(self) -> LedgerHead:
        """The last positions of the ledger."""
        return self._head

    async def entries_after(self, seq: int, limit: int) -> list[LedgerEntry]:
        return await self._reader.entries_after(seq, limit)

    async def actions_after(self, seq: int, limit: int) -> list[Action]:
        return await self._reader.actions_after(seq, limit)

    async def observations_after(self, change: int, limit: int) -> list[tuple[int, Observation]]:
        return await self._reader.observations_after(change, limit)

    async def newer(self, than: LedgerHead, timeout_s: float) -> LedgerHead:
        """Return the head once it is beyond `than` in any stream, or when the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                while not any(have > known for have, known in zip(self._head, than, strict=True)):
                    if self._news is None:
                        self._news = asyncio.Event()
                    await self._news.wait()
        except TimeoutError:
            pass
        return self._head

    def copied(self, *, entries: int, actions: int) -> None:
        """Note that a copy is durable up to these seqs.

        Copied rows older than `KEEP_S` are deleted, a limited number once in a while. The sums stay, and so does the
        last row of each stream, from which numbering continues.
        """
        now = self._clock()
        if now - self._pruned_at < _PRUNE_EVERY_S:
            return
        self._pruned_at = now
        # A deleted entry would look like a request that has not ended.
        entries = min(entries, self._intents.after)
        self._writer.put_unheard(
            WriterTask(lambda connection: _prune(connection, now - KEEP_S, entries, actions), owed=False)
        )
        self._turn()
        self._sync()

    # ---------------------------------------------------------------------------------------------------------------

    def _not_kept(self, error: OSError) -> str:
        self._intents_trouble = trouble = error.strerror or str(error)
        if self._probing is None:
            self._probing = self._loop.call_later(PROBE_S, self._probe)
        return trouble

    def _probe(self) -> None:
        self._probing = None
        try:
            self._intents.probe()
        except OSError as error:
            self._not_kept(error)
        else:
            self._intents_trouble = None

    def _sync(self) -> None:
        """Sync recent reservations to disk, and start another file if this one is long."""
        if self._syncing is not None:
            self._syncing.cancel()
            self._syncing = None
        if self._intents.is_long:
            self._turn()
        older = self._intents.older
        done = self._writer.put(WriterTask(lambda _: self._intents.sync(), owed=False))
        done.add_done_callback(lambda future: self._synced(future, older))

    def _turn(self) -> None:
        try:
            self._intents.turn(self._head.entries)
        except OSError as error:
            _log.warning("reservations_not_turned", error=str(error))

    def _synced(self, done: asyncio.Future[None], older: Sequence[Path]) -> None:
        if (error := done.exception()) is not None:
            _log.warning("reservations_not_synced", error=str(error))
            if self._syncing is None and not self._closing:
                self._syncing = self._loop.call_later(PROBE_S, self._sync)
            return
        try:
            # The entries of requests that ended before the turn were queued before this sync, and are durable now.
            self._intents.drop(older)
        except OSError as trouble:
            _log.warning("reservations_not_dropped", error=str(trouble))

    async def _work(self, act: Callable[[sqlite3.Connection], _T], *, owed: bool) -> _T:
        result: _T = await self._writer.put(WriterTask(act, owed=owed))
        return result

    def _action(
        self,
        agent: str,
        action: str,
        cause: str,
        by: str,
        result: str,
        detail: Mapping[str, Any] | None,
        id_: str = "",
    ) -> Action:
        self._actions += 1
        return Action(
            seq=0,
            id=table_rows.name(id_) or f"{self._nonce}-a{self._actions}",
            at=self._clock(),
            agent=agent,
            action=action,
            cause=table_rows.detail(cause) or "",
            by=table_rows.name(by) or "",
            result=table_rows.detail(result) or "",
            detail=detail or {},
        )

    def _committed(self, head: LedgerHead) -> None:
        if head != self._head:
            self._head = head
            if self._news is not None:
                self._news.set()
                self._news = None


def _prune(connection: sqlite3.Connection, before: float, entries: int, actions: int) -> None:
    hourly_aggregates.advance(connection)
    for table, time_, copied in (("entries", "ended_at", entries), ("actions", "at", actions)):
        connection.execute(
            f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} WHERE seq <= ? AND {time_} < ? "  # noqa: S608
            f"AND seq < (SELECT max(seq) FROM {table}) ORDER BY seq LIMIT {_PRUNE_ROWS})",
            (copied, before),
        )
    sqlite_vacuum.step(connection)


def _insert_action(connection: sqlite3.Connection, action: Action) -> Action:
    seq = connection.execute(
        'INSERT INTO actions (id, at, agent, action, cause, "by", result, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
        (
            action.id,
            action.at,
            action.agent,
            action.action,
            action.cause,
            action.by,
            action.result,
            json.dumps(action.detail, separators=(",", ":")),
        ),
    ).lastrowid
    return replace(action, seq=seq or 0)
