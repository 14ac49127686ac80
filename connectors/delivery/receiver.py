"""Events that came in on their way to the bot: in order per conversation, conversations side by side.

An event is handed out until the bot has finished it, which the bot writes down in the transaction of what the event
caused. So after a crash at any moment it is either finished, with all its consequences, or handed out again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import structlog
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.contract.connector_protocol import TryLater
from connectors.contract.message_codec import CodecError
from connectors.contract.messages import Edit, Reaction, Redaction
from connectors.delivery import inbox
from connectors.delivery.settings import DeliverySettings
from connectors.delivery.write_retry import persist
from core.async_waits import set_within
from core.crash_points import declare
from core.errors import MusterError, RegisterError
from database.engine.store import Store

GIVE_UP = declare("inbox.give_up")

Handler: TypeAlias = "Callable[[inbox.Arrival], Awaitable[None]]"
"""Deals with an event, and calls `inbox.finish` in its own last transaction."""

OnFailed: TypeAlias = "Callable[[AsyncConnection, inbox.Arrival, str], Awaitable[None]]"
"""Called in the transaction that gives an event up, with the reason: the place to tell the operator."""

_LONGEST_PAUSE: Final = 30.0  # seconds

_log = structlog.get_logger(__name__)


class InboxReceiver:
    """Hands out what is in the inbox."""

    def __init__(
        self,
        store: Store,
        handler: Handler,
        settings: DeliverySettings,
        *,
        clock: Callable[[], float],
        on_failed: OnFailed | None,
    ) -> None:
        self._store = store
        self._handler = handler
        self._settings = settings
        self._clock = clock
        self._on_failed = on_failed
        self._watermark = 0
        self._queues: dict[tuple[str, str], deque[inbox.Arrival]] = {}
        self._held: set[int] = set()
        """Events that are queued or being dealt with."""
        self._where: dict[tuple[str, str], tuple[str, str]] = {}
        """In which queue each of them is, by connector and event id."""
        self._unreadable: set[int] = set()
        self._returned: dict[int, int] = {}
        """How often events came back unfinished from a handler that said nothing."""
        self._slots = asyncio.Semaphore(settings.conversations_at_once)
        self._news = asyncio.Event()
        self._stale = True
        self._loading = False
        self._begun: list[tuple[str, str]] = []
        """Conversations that `take` began, and that nobody works on yet."""
        self.resting = asyncio.Event()
        """Set while no event is left to be dealt with."""

    def wake(self) -> None:
        """There may be new events."""
        self._stale = True
        self.resting.clear()
        self._news.set()

    def take(self, arrival: inbox.Arrival) -> bool:
        """Hand out an event that was just written, without a look into the register. Return whether that was possible.

        It is not if other events could precede it: while those are looked up, or when its place is not the next one.
        """
        if self._stale or self._loading or arrival.seq != self._watermark + 1:
            return False
        self._watermark = arrival.seq
        self._queue(arrival, self._begun)
        self._news.set()
        return True

    async def run(self) -> None:
        """Hand out, until cancelled. A fault of ours ends in a new beginning, not in silence."""
        while True:
            try:
                await self._run()
            except Exception:
                _log.exception("inbox.receiver_broke")
            await asyncio.sleep(self._settings.restart_first)
            self._queues.clear()
            self._held.clear()
            self._where.clear()
            self._begun.clear()
            self._watermark, self._stale = 0, True

    async def _run(self) -> None:
        rescanned_at = self._clock()
        async with asyncio.TaskGroup() as conversations:
            while True:
                self._news.clear()
                now = self._clock()
                rescan = abs(now - rescanned_at) >= self._settings.rescan_every
                if rescan:
                    rescanned_at = now
                if rescan or self._stale:
                    self._stale = False
                    for place in await self._load(rescan=rescan):
                        conversations.create_task(self._consume(place))
                while self._begun:
                    conversations.create_task(self._consume(self._begun.pop(0)))
                if not self._held and not self._stale:
                    self.resting.set()
                await set_within(self._news, self._settings.rescan_every)

    async def _load(self, *, rescan: bool) -> list[tuple[str, str]]:
        """Queue what is new. Returns the conversations that no one is working on yet."""
        begun: list[tuple[str, str]] = []
        # What is held now may be finished while we look, and must not be taken for forgotten.
        held = frozenset(self._held)
        upto = self._watermark
        after = 0 if rescan else self._watermark
        self._loading = True
        try:
            async with self._store.read() as tx:
                more = True
                while more:
                    rows = await inbox.unhandled(tx, after=after)
                    more = len(rows) == inbox.PAGE
                    for row in rows:
                        after = row.seq
                        if row.seq in held or row.seq in self._held or row.seq in self._unreadable:
                            continue
                        if row.seq <= upto:
                            self._returned[row.seq] = self._returned.get(row.seq, 0) + 1
                        self._read(row, begun)
                    self._watermark = max(self._watermark, after)
        except RegisterError as error:
            _log.error("register.refused", error=str(error))
            self._stale = True
            await self._store.rest(1.0)
            self._news.set()
        finally:
            self._loading = False
        return begun

    def _read(self, row: Row[Any], begun: list[tuple[str, str]]) -> None:
        try:
            arrival = inbox.Arrival.from_row(row)
        except (CodecError, ValueError) as error:
            # A newer version wrote it, and will deal with it.
            self._unreadable.add(row.seq)
            _log.error("inbox.unreadable", seq=row.seq, connector=row.connector, error=str(error))
            return
        self._queue(arrival, begun)

    def _queue(self, arrival: inbox.Arrival, begun: list[tuple[str, str]]) -> None:
        event = arrival.inbound
        place = (event.connector, event.conversation)
        if isinstance(event.body, Reaction | Redaction | Edit):
            # Chat systems do not always say where: what is about an event is never dealt with before the event itself.
            place = self._where.get((event.connector, event.body.target), place)
        if place not in self._queues:
            self._queues[place] = deque()
            begun.append(place)
        self._queues[place].append(arrival)
        self._held.add(arrival.seq)
        self._where[event.connector, event.event_id] = place
        self.resting.clear()

    async def _consume(self, place: tuple[str, str]) -> None:
        """Deal with one conversation's events, one after the other."""
        queue = self._queues[place]
        while queue:
            await self._deal_with(queue[0])
            done = queue.popleft()
            self._held.discard(done.seq)
            del self._where[done.inbound.connector, done.inbound.event_id]
        del self._queues[place]
        if not self._held:
            self._news.set()

    async def _deal_with(self, arrival: inbox.Arrival) -> None:
        if self._returned.get(arrival.seq, 0) >= self._settings.handler_tries:
            del self._returned[arrival.seq]
            await self._give_up(arrival, "its handler received it several times and never finished it.")
            return
        tries = 0
        pause = self._settings.handler_pause
        while True:
            try:
                async with self._slots:
                    await self._handler(arrival)
                return
            except RegisterError as error:
                reason = str(error)
            except TryLater as error:
                # That the chat system is away, or limits us, says nothing about the event.
                tries += not (error.away or error.limited)
                reason = str(error)
            except Exception as error:
                tries += 1
                reason = str(error) if isinstance(error, MusterError) else f"{type(error).__name__}: {error}"
                _log.exception("inbox.handler_broke", seq=arrival.seq, tries=tries)
            if tries >= self._settings.handler_tries:
                await self._give_up(arrival, reason)
                return
            _log.warning("inbox.again", seq=arrival.seq, reason=reason, pause=pause)
            await self._store.rest(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    async def _give_up(self, arrival: inbox.Arrival, reason: str) -> None:
        _log.error("inbox.failed", seq=arrival.seq, event_id=arrival.inbound.event_id, reason=reason)

        async def alone(tx: AsyncConnection) -> None:
            await inbox.finish(tx, arrival.seq, self._clock(), state="failed", detail=reason)

        async def told(tx: AsyncConnection) -> None:
            await alone(tx)
            if self._on_failed is not None:
                await self._on_failed(tx, arrival, reason)

        try:
            await persist(self._store, GIVE_UP, told)
        except Exception:
            _log.exception("inbox.failed_hook_broke", seq=arrival.seq)
            await persist(self._store, GIVE_UP, alone)
