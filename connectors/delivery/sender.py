"""The outbox of one connector on its way to the wire.

What is about to be sent is written down before the wire is touched, and what happened to it after. So after a crash at
any moment every row is either known to stand, or is sent again under the key that the chat system already knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.contract.connector_protocol import Connector, MessageRefused, TryLater
from connectors.contract.message_codec import CodecError
from connectors.contract.messages import File, OpenThread, Sent
from connectors.delivery import outbox
from connectors.delivery.lane import Backoff
from connectors.delivery.lane_scheduler import Lanes
from connectors.delivery.send_decision import Attempt, SendDecision
from connectors.delivery.send_rate_limiter import SendRateLimiter
from connectors.delivery.settings import DeliverySettings
from connectors.delivery.write_retry import persist
from core.async_waits import set_within
from core.crash_points import around, declare
from core.errors import RegisterError
from database.engine.store import Store

RECORD = declare("outbox.record")
RESTAMP = declare("outbox.restamp")
SEND = declare("outbox.send")

OnOutcome: TypeAlias = "Callable[[outbox.Row], Awaitable[None]]"
"""Told of a row that was sent or is dead, after that was written down. Best effort: a crash can come before it."""

_EXPIRE_EVERY = 60.0

_MISSING = outbox.OutboxRowState(state="missing")

_log = structlog.get_logger(__name__)


@dataclass(kw_only=True, slots=True)
class _Result:
    attempt: Attempt
    outcome: Sent | TryLater | MessageRefused
    not_before: float = 0.0


@dataclass(kw_only=True, slots=True)
class _Record:
    """What is to be written down in one transaction."""

    results: list[_Result]
    choice: SendDecision = field(default_factory=SendDecision)

    def outcomes(self, now: float) -> Iterator[outbox.Row]:
        """Yield the rows that are done with, as they stand now."""
        for result in self.results:
            row = result.attempt.row
            match result.outcome:
                case Sent(event_id=event_id, conversation=made):
                    yield replace(
                        row, state="sent", sent_at=now, event_id=event_id, made_conversation=made, detail=None
                    )
                case MessageRefused() as refused:
                    yield replace(row, state="dead", detail=str(refused))
                case TryLater():
                    pass
        for row, reason in self.choice.dead:
            yield replace(row, state="dead", detail=reason)


class OutboxSender:
    """Sends what waits in the outbox for one connector."""

    def __init__(
        self,
        store: Store,
        name: str,
        connector: Connector,
        settings: DeliverySettings,
        *,
        clock: Callable[[], float],
        steady: Callable[[], float],
        rng: Callable[[], float],
        on_outcome: OnOutcome | None,
    ) -> None:
        self._store = store
        self._name = name
        self._connector = connector
        self._settings = settings
        self._clock = clock
        self._steady = steady
        self._epoch = clock() - steady()
        self._on_outcome = on_outcome
        self._rng = rng
        self.lanes = self._empty_lanes()
        self._watermark = 0
        self._stale = True
        self._results: list[_Result] = []
        self._news = asyncio.Event()
        self.resting = asyncio.Event()
        """Set while nothing can be sent just now."""
        self._open = False
        self._hurried_at = 0.0

    def _empty_lanes(self) -> Lanes:
        abilities = self._connector.capabilities
        backoff = Backoff(
            first=self._settings.retry_first,
            longest=self._settings.retry_longest,
            give_up_after=self._settings.give_up_after,
            key_margin=self._settings.send_timeout,
        )
        pace = SendRateLimiter(abilities.rate_per_second, abilities.burst, self._now())
        uploads = self._settings.uploads_at_once
        return Lanes(abilities, pace, backoff=backoff, rng=self._rng, uploads_at_once=uploads)

    def _now(self) -> float:
        """Return the time in the lanes: the clock's when this began, and from then on seconds that really passed. So
        nothing that waits grows old because the clock is set."""
        return self._epoch + self._steady()

    def wake(self) -> None:
        """There may be more to say."""
        self._stale = True
        self.resting.clear()
        self._news.set()

    def set_open(self, value: bool) -> None:
        """Whether the connector is there to be used."""
        self._open = value
        if value:
            self.lanes.hurry(self._now())
        self._news.set()

    def heard(self) -> None:
        """The chat system spoke: what failed because the connection was down need not wait any longer."""
        now = self._now()
        if now - self._hurried_at >= self._settings.restart_first:
            self._hurried_at = now
            self.lanes.hurry(now)
            self._news.set()

    async def run(self) -> None:
        """Send, until cancelled. A fault of ours or of the connector ends in a new beginning, not in silence."""
        while True:
            try:
                await self._run()
            except Exception:
                _log.exception("outbox.sender_broke", connector=self._name)
            await asyncio.sleep(self._settings.restart_first)
            self.lanes = self._empty_lanes()
            self._watermark, self._stale, self._results = 0, True, []

    async def _run(self) -> None:
        rescanned_at = expired_at = self._now()
        async with asyncio.TaskGroup() as sends:
            while True:
                self._news.clear()
                now = self._now()
                record = _Record(results=self._take_results(now))
                if abs(now - rescanned_at) >= self._settings.rescan_every:
                    self._watermark, rescanned_at, self._stale = 0, now, True
                await self._load()
                if self._open:
                    record.choice = self._choose()
                elif abs(now - expired_at) >= min(_EXPIRE_EVERY, self._settings.give_up_after):
                    record.choice, expired_at = self.lanes.expire(now), now
                else:
                    record.choice = self.lanes.take()
                if record.results or record.choice:
                    self.resting.clear()
                    await self._write(record)
                    for attempt in record.choice.attempts:
                        sends.create_task(self._send(attempt))
                    for row in record.outcomes(self._clock()):
                        await self._tell(row)
                else:
                    await self._wait()

    # --- what waits --------------------------------------------------------------------------------------------

    def _choose(self) -> SendDecision:
        room = self._settings.sends_at_once - self.lanes.in_flight
        self.lanes.capabilities = self._connector.capabilities
        return self.lanes.choose(self._now(), room=room, scope=self._connector.scope())

    async def _wait(self) -> None:
        if not self._stale and not self._results and not self.lanes.in_flight:
            self.resting.set()
        now = self._now()
        until = [now + self._settings.rescan_every]
        if self._open and self.lanes.in_flight < self._settings.sends_at_once:
            moment = self.lanes.next_at(now)
            if moment is not None:
                until.append(moment)
        await set_within(self._news, max(0.0, min(until) - now))

    async def _load(self) -> None:
        if not self._stale and not self.lanes.unknown():
            return
        self._stale = False
        try:
            if not self.lanes.unknown():
                async with self._store.read(snapshot=False) as tx:
                    await self._load_rows(tx)
                if not self.lanes.unknown():
                    return
            async with self._store.read() as tx:
                await self._load_rows(tx)
                # Looked up in the same snapshot: what is pending and not among the rows above is not ours to wait for.
                if unknown := self.lanes.unknown():
                    found = await outbox.standing(tx, unknown)
                    for key in unknown:
                        standing = found.get(key, _MISSING)
                        known = standing if standing.state != "pending" else _MISSING
                        self.lanes.learn(key, known, self._now())
        except RegisterError as error:
            _log.error("register.refused", connector=self._name, error=str(error))
            self._stale = True
            await self._store.rest(1.0)
            self._news.set()

    async def _load_rows(self, tx: AsyncConnection) -> None:
        more = True
        while more:
            rows = await outbox.pending(tx, self._name, after=self._watermark)
            more = len(rows) == outbox.PAGE
            for found in rows:
                self._watermark = max(self._watermark, found.seq)
                if found.key in self.lanes:
                    continue
                try:
                    row = outbox.Row.from_row(found)
                except (CodecError, ValueError) as error:
                    _log.error("outbox.unreadable", key=found.key, error=str(error))
                    continue
                self.lanes.add(self._in_our_time(row), self._now())

    def _in_our_time(self, row: outbox.Row) -> outbox.Row:
        shift = self._now() - self._clock()
        first = row.first_attempt_at
        return replace(
            row, created_at=row.created_at + shift, first_attempt_at=None if first is None else first + shift
        )

    # --- the wire ----------------------------------------------------------------------------------------------

    async def _send(self, attempt: Attempt) -> None:
        outcome = await self._outcome(attempt)
        if isinstance(outcome, Sent) and isinstance(attempt.row.outbound.content, OpenThread):
            # Where there are no threads, what belongs in one is said where its opener stands.
            outcome = replace(outcome, conversation=outcome.conversation or attempt.conversation)
        self._results.append(_Result(attempt=attempt, outcome=outcome))
        self._news.set()

    async def _outcome(self, attempt: Attempt) -> Sent | TryLater | MessageRefused:
        uploads = isinstance(attempt.outbound.content, File)
        limit = self._settings.upload_timeout if uploads else self._settings.send_timeout
        try:
            if attempt.look_first:
                async with asyncio.timeout(limit):
                    found = await self._connector.find(
                        attempt.outbound, conversation=attempt.conversation, target=attempt.target
                    )
                if found is not None:
                    return found
                await self._restamp(attempt.row.key)
            if self._connector.scope() != attempt.scope:
                # It has logged in meanwhile, on another device: there, no one knows what was tried before.
                return TryLater(f"{self._name} has just changed its log-in", after=0.0)
            if not self._store.in_time():
                # Someone else may send it now, and would not know that we do.
                return TryLater("the register was not reached for so long that another Muster may lead", after=1.0)
            async with asyncio.timeout(limit):
                with around(SEND):
                    return await self._connector.send(
                        attempt.outbound, conversation=attempt.conversation, target=attempt.target
                    )
        except (TryLater, MessageRefused) as error:
            return error
        except TimeoutError:
            return TryLater(f"{self._name} did not answer within {limit:g} s")
        except Exception as error:
            _log.exception("outbox.send_broke", connector=self._name, key=attempt.row.key)
            return TryLater(f"{self._name} could not send: {type(error).__name__}: {error}")

    async def _restamp(self, key: str) -> None:
        scope, now = self._connector.scope(), self._clock()
        await persist(self._store, RESTAMP, lambda tx: outbox.restamp(tx, key, scope=scope, now=now))
        self.lanes.restamped(key, scope=scope, now=self._now())

    # --- what is written down ----------------------------------------------------------------------------------

    def _take_results(self, now: float) -> list[_Result]:
        """Return what happened to what was under way; the lanes know it from now on, the register after the next
        `_write`."""
        results, self._results = self._results, []
        for result in results:
            key = result.attempt.row.key
            match result.outcome:
                case Sent() as sent:
                    self.lanes.sent(key, sent, now)
                case MessageRefused():
                    self.lanes.died(key, now)
                case TryLater(after=after, limited=limited) as error:
                    reason = str(error)
                    result.not_before = self.lanes.later(key, now, after=after, limited=limited, detail=reason)
                    _log.info("outbox.later", connector=self._name, key=key, limited=limited, reason=reason)
        return results

    async def _write(self, record: _Record) -> None:
        """Results of what was sent, and what is about to be sent, in one transaction."""
        scope, now = self._connector.scope(), self._clock()
        choice = record.choice

        async def work(tx: AsyncConnection) -> None:
            sent = {r.attempt.row.key: r.outcome for r in record.results if isinstance(r.outcome, Sent)}
            if sent:
                await outbox.mark_sent(tx, sent, now)
            for result in record.results:
                key = result.attempt.row.key
                match result.outcome:
                    case MessageRefused() as refused:
                        await outbox.close(tx, [key], "dead", str(refused))
                    case TryLater() as later:
                        until = result.not_before - self._now() + now
                        await outbox.mark_later(tx, key, not_before=until, detail=str(later))
            for row in choice.rewritten:
                await outbox.rewrite(tx, row.key, row.outbound.content, row.outbound.priority)
            for row, reason in choice.superseded:
                await outbox.close(tx, [row.key], "superseded", reason)
            for row, reason in choice.dead:
                await outbox.close(tx, [row.key], "dead", reason)
            if choice.attempts:
                keys = [attempt.row.key for attempt in choice.attempts]
                await outbox.mark_attempted(tx, keys, scope=scope, now=now)

        await persist(self._store, RECORD, work)

    async def _tell(self, row: outbox.Row) -> None:
        if row.state == "dead":
            _log.warning("outbox.dead", connector=self._name, key=row.key, reason=row.detail)
        if self._on_outcome is None:
            return
        try:
            await self._on_outcome(row)
        except Exception:
            _log.exception("outbox.outcome_hook_broke", connector=self._name, key=row.key)
