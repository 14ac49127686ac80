"""The next spans to send: rows that ended since the last ones were sent, and what they belong to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.messaging.outbox_keys import event_digest
from bot.traces import causes, spans, turn_times
from bot.traces.causes import REQUEST, TURN, Cause, TurnKey
from bot.traces.model import FinishedSpan, SpanIds, is_sampled
from bot.traces.spans import TurnTimes
from connectors.contract.messages import Priority
from database.engine.store import Store
from database.queries.operations import trace_sources as sources
from database.queries.operations.trace_sources import (
    AUDIT,
    INBOX,
    MESSAGES,
    OUTBOX,
    TracedMessage,
    TracedReply,
    TracedRequest,
)
from fleet.control.task_attempt_ids import task_of

#: Rows of each table that are looked at together. What is sent together is bounded by it.
PAGE = 200
#: Seconds for which a request waits until its turn is known. Its journal is read meanwhile.
TURN_WITHIN = 120.0

#: Kinds of messages in the outbox that answer somebody.
_SAID = frozenset({"message", "open_thread", "replace", "file"})


@dataclass(slots=True)
class GatheredSpans:
    """Spans to send, and what to remember once they were sent."""

    spans: list[FinishedSpan] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, set[int]] = field(default_factory=dict)
    """Rows that have not ended, by table."""
    settled: dict[str, set[int]] = field(default_factory=dict)
    """Rows of which nothing more is sent, by table."""
    is_full: bool = False
    """Whether there may be more."""

    @property
    def is_news(self) -> bool:
        """Whether there is anything to send or to remember."""
        return bool(self.spans or self.places or any(self.settled.values()) or any(self.waiting.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanGatherer:
    store: Store
    folder: Callable[[str], Path]
    """Returns the folder of an agent."""
    commands: Mapping[str, object]
    """All commands by name."""
    audited: Callable[[str], bool]
    """Returns whether runs of a command are audited."""
    clock: Callable[[], float]
    sample: float

    async def gather(self, places: Mapping[str, int], salt: int) -> GatheredSpans:
        """Return the next spans after these places.

        Raises:
            RegisterError: the register cannot be read.
        """
        ids, found = SpanIds(salt), GatheredSpans()
        messages: list[tuple[TracedMessage, Cause]] = []
        async with self.store.read() as tx:
            await self._events_and_runs(tx, places, ids, found)
            await self._requests(tx, places, ids, found)
            await self._replies(tx, places, ids, found)
            messages = await self._messages(tx, places, found)
            known = await sources.agents_of(tx, {row.agent for row, _ in messages})
        sampled = [(row, cause) for row, cause in messages if is_sampled(ids.trace(cause.root), self.sample)]
        times = await asyncio.to_thread(self._times, [row for row, _ in sampled])
        for row, cause in sampled:
            found.spans += spans.of_message(ids, row, cause, known.get(row.agent), times.get(row.id, TurnTimes()))
        found.spans = [each for each in found.spans if is_sampled(each.trace, self.sample)]
        return found

    async def _events_and_runs(
        self, tx: AsyncConnection, places: Mapping[str, int], ids: SpanIds, found: GatheredSpans
    ) -> None:
        events = await sources.events(tx, after=places[INBOX], limit=PAGE)
        _note(found, INBOX, events.until, events.is_full, settled=events.gone)
        ended = [row for row in events.rows if _has_ended(found, INBOX, row.place, row.ended, places)]
        # Only messages have an effect that is worth a trace; strangers' messages have no body any more.
        texts = [row for row in ended if row.kind == "text"]
        found.spans += [spans.of_event(ids, row) for row in texts]
        audit = await sources.runs_of_audit(tx, after=places[AUDIT], limit=PAGE)
        _note(found, AUDIT, audit.until, audit.is_full)
        of_chat = {f"c{event_digest(row.connector, row.event_id)}" for row in texts}
        runs = await sources.runs(tx, {*audit.rows, *of_chat})
        wanted = [run for run in runs.values() if run.id in audit.rows or not self.audited(run.name)]
        found.spans += [spans.of_run(ids, run, causes.of_run(run.id), self.commands) for run in wanted]

    async def _messages(
        self, tx: AsyncConnection, places: Mapping[str, int], found: GatheredSpans
    ) -> list[tuple[TracedMessage, Cause]]:
        messages = await sources.messages(tx, after=places[MESSAGES], limit=PAGE)
        _note(found, MESSAGES, messages.until, messages.is_full, settled=messages.gone)
        ended = [row for row in messages.rows if _has_ended(found, MESSAGES, row.place, row.ended, places)]
        of = await self._causes(tx, [row.id for row in ended])
        return [(row, of[row.id]) for row in ended]

    async def _requests(
        self, tx: AsyncConnection, places: Mapping[str, int], ids: SpanIds, found: GatheredSpans
    ) -> None:
        for source in await sources.ledgers(tx):
            page = await sources.requests(tx, source, after=places.get(source, 0), limit=PAGE)
            _note(found, source, page.until, page.is_full, settled=page.gone)
            turns = await self._turns(tx, {TurnKey(row.agent, row.turn) for row in page.rows if row.turn is not None})
            for row in page.rows:
                cause = self._cause_of_request(row, turns)
                known = cause is not None or row.ended_at < self.clock() - TURN_WITHIN
                if _has_ended(found, source, row.place, known, places):
                    found.spans.append(spans.of_request(ids, row, cause or Cause(f"{REQUEST}/{row.id}")))

    async def _replies(
        self, tx: AsyncConnection, places: Mapping[str, int], ids: SpanIds, found: GatheredSpans
    ) -> None:
        replies = await sources.replies(tx, after=places[OUTBOX], limit=PAGE)
        _note(found, OUTBOX, replies.until, replies.is_full, settled=replies.gone)
        said: list[tuple[TracedReply, Cause | TurnKey]] = []
        for row in replies.rows:
            cause = causes.of_reply(row.key)
            grows = row.kind == "replace" and row.priority == Priority.PROGRESS
            if cause is None or row.kind not in _SAID or grows:
                continue
            if _has_ended(found, OUTBOX, row.place, row.ended, places) and row.state != "superseded":
                said.append((row, cause))
        turns = await self._turns(tx, {cause for _, cause in said if isinstance(cause, TurnKey)})
        for row, cause in said:
            of = turns.get(cause) if isinstance(cause, TurnKey) else cause
            if of is not None:
                found.spans.append(spans.of_reply(ids, row, of))

    def _cause_of_request(self, row: TracedRequest, turns: Mapping[TurnKey, Cause]) -> Cause | None:
        """Return the cause of a request; None if its turn is not known yet."""
        return Cause(f"{REQUEST}/{row.id}") if row.turn is None else turns.get(TurnKey(row.agent, row.turn))

    async def _turns(self, tx: AsyncConnection, turns: set[TurnKey]) -> dict[TurnKey, Cause]:
        """Return what turns cause; those that no message is known of are missing."""
        found = await sources.messages_of_turns(tx, {(each.agent, each.turn) for each in turns})
        of = await self._causes(tx, list(found.values()))
        return {TurnKey(*turn): Cause(of[message].root, (TURN, message)) for turn, message in found.items()}

    async def _causes(self, tx: AsyncConnection, messages: Sequence[str]) -> dict[str, Cause]:
        """Return the causes of messages to agents, by their ids."""
        carried = {message: task for message in messages if (task := task_of(message)) is not None}
        tasks = await sources.tasks_of(tx, carried.values())
        asked = {
            f"c{event_digest(task.connector, task.event_id)}"
            for task in tasks.values()
            if task.connector is not None and task.event_id is not None
        }
        runs = await sources.known_runs(tx, {*asked, *map(causes.run_of_message, messages)})
        return {message: causes.of_message(message, tasks.get(carried.get(message, "")), runs) for message in messages}

    def _times(self, messages: Sequence[TracedMessage]) -> dict[str, TurnTimes]:
        found: dict[str, TurnTimes] = {}
        for agent in sorted({row.agent for row in messages}):
            of = [row for row in messages if row.agent == agent]
            since = min(row.created_at for row in of)
            found |= turn_times.read(self.folder(agent), {row.id for row in of}, since=since)
        return found


def _note(found: GatheredSpans, source: str, until: int | None, is_full: bool, *, settled: Sequence[int] = ()) -> None:
    if until is not None:
        found.places[source] = until
    found.is_full |= is_full
    found.settled.setdefault(source, set()).update(settled)


def _has_ended(found: GatheredSpans, source: str, place: int, ended: bool, places: Mapping[str, int]) -> bool:
    """Return whether a row has ended, and note whether it waits."""
    waited = place <= places.get(source, 0)
    if ended and waited:
        found.settled.setdefault(source, set()).add(place)
    elif not ended and not waited:
        found.waiting.setdefault(source, set()).add(place)
    return ended
