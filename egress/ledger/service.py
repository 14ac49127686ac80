"""The ledger as the event loop sees it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from core import sqlite_vacuum
from core.secret_values import SecretValues
from egress.ledger import hourly_aggregates, recovery, reservation_log, table_rows
from egress.ledger.model import Action
from egress.ledger.page_reader import Reader
from egress.ledger.writer_thread import LedgerHead, LedgerWriter, ObservedQuotas, WriterTask, unwritable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from egress.ledger.model import LedgerEntry, LedgerUnwritable, Observation
    from egress.ledger.page_reader import PastRequest
    from egress.ledger.table_rows import Denial, Reservation, Settlement
    from egress.settings import AgentRegistration

_log = structlog.get_logger(__name__)

#: Rows that are copied are kept for so long; sums are kept for ever.
KEEP_S: Final = 35 * 86400.0
_PRUNE_EVERY_S: Final = 3600.0
_PRUNE_ROWS: Final = 5000
#: So long at most a reservation is with the kernel alone. (A sync at each would be a second wait for the disk in every
#: request.)
_SYNC_S: Final = 0.1
#: When nothing could be kept, it is tried again so much later, whether someone asks or not.
_PROBE_S: Final = 1.0

_T = TypeVar("_T")


class UsageLedger:
    """One host's ledger. All methods are the event loop's; whatever they return or await is durable then, but for
    what `reserve` says of itself.

    Methods that write raise `LedgerUnwritable` when the disk takes nothing.
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
        """Open the file, or begin one, and enter what was under way when the last egress ended, as estimates.

        `long` is how long the file of what is under way gets, bytes. `secrets` stand in no row.

        Raises:
            LedgerUnusable: it cannot be opened as it is.
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
        """Write what waits, if it can be written, and close the file."""
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
        """Why nothing can be written now; None: as far as is known it can."""
        trouble = self._writer.trouble or self._intents_trouble
        return None if trouble is None else unwritable(trouble)

    def next_number(self) -> tuple[int, str]:
        """For a new reservation: its number, and its id, which no other ledger's row ever has."""
        self._numbers = number = self._numbers + 1
        return number, f"{self._nonce}-{number}"

    def reserve(self, reservation: Reservation) -> None:
        """Keep what is assumed of a request, before it leaves: should the egress end, this becomes its entry.

        When it returns, no end of this process loses it any more; a loss of power may, for a tenth of a second.

        Raises:
            LedgerUnwritable: the disk takes nothing, or took nothing of late.
        """
        if self._writer.trouble is not None:
            raise unwritable(self._writer.trouble)
        try:
            self._intents.begin(reservation)
        except OSError as error:
            raise unwritable(self._not_kept(error)) from None
        self._intents_trouble = None
        if self._syncing is None:
            self._syncing = self._loop.call_later(_SYNC_S, self._sync)

    def tell(self, reservation: Reservation) -> None:
        """Keep what is assumed of an open request now that its stream has told more: should the egress end, this
        becomes its entry.

        On a full disk, what was reserved stays.
        """
        try:
            self._intents.tell(reservation)
        except OSError as error:
            _log.warning("told_not_kept", id=reservation.id, error=error.strerror or str(error))

    def settle(self, settlement: Settlement) -> asyncio.Future[int]:
        """Done, with the seq of its entry, when the entry is durable.

        When it fails, the entry is owed, and follows as soon as the disk takes it. Whether anybody awaits it changes
        nothing.
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
        """Keep what was seen of quotas, soon. What has a secret in it was seen of none."""
        masked = self._secrets.masked_text
        clean = [
            each
            for each in observations
            if masked(each.window) is each.window and (each.status is None or masked(each.status) is each.status)
        ]
        self._writer.put_unheard(ObservedQuotas(tuple(clean)))

    async def flushed(self) -> None:
        """Wait until all that was asked for before this is durable."""
        await self._writer.put(WriterTask(lambda _: None, owed=False))

    # --- what was done to agents -----------------------------------------------------------------------------------

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
        """Add a row to the audit. When it cannot be written now it is owed: it says what has happened."""
        made = self._action(agent, action, cause, by, result, detail)
        return await self._work(lambda connection: _insert_action(connection, made), owed=owed)

    def note(
        self, agent: str, action: str, *, cause: str, by: str, result: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        """The same, for whom no one waits."""
        made = self._action(agent, action, cause, by, result, detail)
        self._writer.put_unheard(WriterTask(lambda connection: _insert_action(connection, made), owed=True))

    async def deny(self, denial: Denial, *, result: str, detail: Mapping[str, Any] | None = None) -> Action:
        """Keep a denial, with its row in the audit. When it cannot be written now it is owed: it holds already."""
        made = self._action(denial.agent, denial.action, denial.cause, denial.by, result, detail, denial.id)

        def write(connection: sqlite3.Connection) -> Action:
            connection.execute("INSERT OR REPLACE INTO denials VALUES (?, ?, ?, ?, ?, ?)", denial)
            return _insert_action(connection, made)

        self.denials[denial.agent] = denial
        return await self._work(write, owed=True)

    async def allow(self, agent: str, action: str, *, cause: str, by: str, id: str = "") -> Action:
        """Take a denial back, with a row in the audit."""
        made = self._action(agent, action, cause, by, "allowed", None, id)

        def write(connection: sqlite3.Connection) -> Action:
            connection.execute("DELETE FROM denials WHERE agent = ?", (agent,))
            return _insert_action(connection, made)

        done = await self._work(write, owed=False)
        self.denials.pop(agent, None)
        return done

    async def keep_agent(self, registration: AgentRegistration) -> None:
        """Remember an agent, so that it is served again after a restart."""
        row = registration.agent, registration.model_dump_json()
        await self._work(
            lambda connection: connection.execute("INSERT OR REPLACE INTO agents VALUES (?, ?)", row), owed=False
        )
        self.agents[registration.agent] = registration

    async def forget_agent(self, name: str) -> None:
        """Forget an agent. What it used stays."""
        await self._work(lambda connection: connection.execute("DELETE FROM agents WHERE name = ?", (name,)), owed=True)
        self.agents.pop(name, None)

    # --- what was used ---------------------------------------------------------------------------------------------

    async def used_since(self, starts: Sequence[float]) -> dict[float, list[hourly_aggregates.Used]]:
        """Return what was used from each of these times on, all settlements included that were asked for before
        this."""

        def read(connection: sqlite3.Connection) -> dict[float, list[hourly_aggregates.Used]]:
            hourly_aggregates.advance(connection)
            return {start: hourly_aggregates.since(connection, start) for start in starts}

        result: dict[float, list[hourly_aggregates.Used]] = await self._writer.put(WriterTask(read, owed=False))
        return result

    async def learned(self, limit: int) -> list[PastRequest]:
        """Return what the last requests used whose usage the provider told, oldest first."""
        return await self._reader.learned(limit)

    # --- for who copies it -----------------------------------------------------------------------------------------

    @property
    def head(self) -> LedgerHead:
        """How far the ledger goes."""
        return self._head

    async def entries_after(self, seq: int, limit: int) -> list[LedgerEntry]:
        return await self._reader.entries_after(seq, limit)

    async def actions_after(self, seq: int, limit: int) -> list[Action]:
        return await self._reader.actions_after(seq, limit)

    async def observations_after(self, change: int, limit: int) -> list[tuple[int, Observation]]:
        return await self._reader.observations_after(change, limit)

    async def newer(self, than: LedgerHead, timeout_s: float) -> LedgerHead:
        """Return how far the ledger goes, once it goes beyond `than` in any of its streams, or the time is up."""
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
        """Hear how far a copy is durable: up to these seqs.

        What is in it and older than `KEEP_S` is thrown away, some of it once in a while. The sums stay, and the last
        row of each stream, by which counting goes on.
        """
        now = self._clock()
        if now - self._pruned_at < _PRUNE_EVERY_S:
            return
        self._pruned_at = now
        # What is gone would be taken for not having ended.
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
            self._probing = self._loop.call_later(_PROBE_S, self._probe)
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
        """Have on the disk what was reserved of late, and begin another file if this one is long."""
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
                self._syncing = self._loop.call_later(_PROBE_S, self._sync)
            return
        try:
            # What had ended before the turn was asked to be written before this, and is.
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
    return Action(
        seq=seq or 0,
        id=action.id,
        at=action.at,
        agent=action.agent,
        action=action.action,
        cause=action.cause,
        by=action.by,
        result=action.result,
        detail=action.detail,
    )
