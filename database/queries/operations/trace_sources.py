"""What traces are made of: rows that ended, without anything that people or agents wrote."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, Table, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.id_batches import batches
from database.queries.operations.command_runs import ENDED
from database.queries.record import Record
from database.schema import (
    agent_messages,
    agents,
    audit,
    command_runs,
    inbox,
    ledger,
    ledger_positions,
    outbox,
    tasks,
    trace_waiting,
)

T = TypeVar("T")
R = TypeVar("R", bound=Record)

#: Names of the tables in `trace_positions`.
INBOX, AUDIT, MESSAGES, OUTBOX, LEDGER = "inbox", "audit", "messages", "outbox", "ledger/"
#: The key of the audit's line about a run (bot.commands.outcomes).
RUN_KEY = "command:"


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedEvent(Record):
    """An event of the inbox."""

    place: int
    ended: bool
    connector: str
    event_id: str
    received_at: float
    state: str
    handled_at: float | None
    #: the type of its body; null if the body is gone
    kind: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedRun(Record):
    """A run of a command."""

    id: str
    name: str
    door: str
    connector: str | None
    event_id: str | None
    state: str
    #: the stable code of a refusal
    code: str | None
    started_at: float
    ended_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedMessage(Record):
    """A message to an agent."""

    place: int
    ended: bool
    id: str
    agent: str
    mode: str
    state: str
    turn: str | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedRequest(Record):
    """A request to a model, as the egress metered it."""

    place: int
    id: str
    agent: str
    role: str
    session: str | None
    turn: str | None
    task: str | None
    account: str
    provider: str
    model_asked: str | None
    model: str | None
    attempt: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    reported: bool
    status: int | None
    how: str
    error: str | None
    started_at: float
    ended_at: float
    first_byte_s: float | None
    usd: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedReply(Record):
    """A row of the outbox."""

    place: int
    ended: bool
    key: str
    connector: str
    kind: str | None
    priority: int
    state: str
    attempts: int
    created_at: float
    sent_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedTask(Record):
    """What a task was asked for by."""

    id: str
    kind: str
    connector: str | None
    event_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedAgent(Record):
    name: str
    role: str
    runtime: str


@dataclass(frozen=True, slots=True)
class TracedPage(Generic[T]):
    """Rows of one table."""

    rows: tuple[T, ...]
    gone: tuple[int, ...]
    """Places that were waited for and have no row any more."""
    until: int | None
    """The place of the last new row; None if there are no new rows."""
    is_full: bool
    """Whether there may be more."""


_EVENT_ENDED = inbox.c.state != "new"
_MESSAGE_ENDED = agent_messages.c.state.not_in(("pending", "journaled", "accepted", "withdrawing"))
_REPLY_ENDED = outbox.c.state != "pending"

_EVENT: list[ColumnElement[Any]] = [
    inbox.c.seq.label("place"), _EVENT_ENDED.label("ended"), inbox.c.connector, inbox.c.event_id, inbox.c.received_at,
    inbox.c.state, inbox.c.handled_at, inbox.c.body["type"].as_string().label("kind"),
]  # fmt: skip
_MESSAGE: list[ColumnElement[Any]] = [
    agent_messages.c.seq.label("place"), _MESSAGE_ENDED.label("ended"), agent_messages.c.id, agent_messages.c.agent,
    agent_messages.c.mode, agent_messages.c.state, agent_messages.c.turn, agent_messages.c.created_at,
    agent_messages.c.updated_at,
]  # fmt: skip
_REPLY: list[ColumnElement[Any]] = [
    outbox.c.seq.label("place"), _REPLY_ENDED.label("ended"), outbox.c.key, outbox.c.connector,
    outbox.c.content["type"].as_string().label("kind"), outbox.c.priority, outbox.c.state, outbox.c.attempts,
    outbox.c.created_at, outbox.c.sent_at,
]  # fmt: skip
_RENAMED = {"place": ledger.c.seq, "how": ledger.c.ended, "error": ledger.c.detail}
_REQUEST: list[ColumnElement[Any]] = [
    _RENAMED[name].label(name) if name in _RENAMED else ledger.c[name] for name in TracedRequest.__dataclass_fields__
]
_RUN: list[ColumnElement[Any]] = [
    command_runs.c.reply["code"].as_string().label("code") if name == "code" else command_runs.c[name]
    for name in TracedRun.__dataclass_fields__
]


async def ends(tx: AsyncConnection) -> dict[str, int]:
    """Return the last place of each table."""
    tables = {INBOX: inbox, AUDIT: audit, MESSAGES: agent_messages, OUTBOX: outbox}
    found = {name: await tx.scalar(select(func.max(table.c.seq))) or 0 for name, table in tables.items()}
    copied = await tx.execute(select(ledger_positions.c.ledger, ledger_positions.c.entries))
    return found | {f"{LEDGER}{name}": place for name, place in copied}


async def ledgers(tx: AsyncConnection) -> list[str]:
    """Return the names of the ledgers that were copied, as in `trace_positions`."""
    return [f"{LEDGER}{name}" for name in await tx.scalars(select(ledger_positions.c.ledger))]


async def events(tx: AsyncConnection, *, after: int, limit: int) -> TracedPage[TracedEvent]:
    """Return events that ended, and new ones after a place."""
    return await _page(tx, TracedEvent, inbox, INBOX, _EVENT, _EVENT_ENDED, after, limit)


async def messages(tx: AsyncConnection, *, after: int, limit: int) -> TracedPage[TracedMessage]:
    """Return messages to agents that ended, and new ones after a place."""
    return await _page(tx, TracedMessage, agent_messages, MESSAGES, _MESSAGE, _MESSAGE_ENDED, after, limit)


async def replies(tx: AsyncConnection, *, after: int, limit: int) -> TracedPage[TracedReply]:
    """Return rows of the outbox that were sent or given up, and new ones after a place."""
    return await _page(tx, TracedReply, outbox, OUTBOX, _REPLY, _REPLY_ENDED, after, limit)


async def requests(tx: AsyncConnection, source: str, *, after: int, limit: int) -> TracedPage[TracedRequest]:
    """Return requests of one ledger: those that wait, and those after a place."""
    of = ledger.c.ledger == source.removeprefix(LEDGER)
    waiting = (
        select(trace_waiting.c.place.label("waited_for"), *_REQUEST)
        .select_from(trace_waiting.outerjoin(ledger, (ledger.c.seq == trace_waiting.c.place) & of))
        .where(trace_waiting.c.source == source)
        .order_by(trace_waiting.c.place)
        .limit(limit)
    )
    new = select(*_REQUEST).where(of, ledger.c.seq > after).order_by(ledger.c.seq).limit(limit)
    return await _found(tx, TracedRequest, waiting, new, limit, go_on_waiting=True)


async def runs_of_audit(tx: AsyncConnection, *, after: int, limit: int) -> TracedPage[str]:
    """Return the ids of the runs of audited commands that ended after a place of the audit."""
    new = select(audit.c.seq, audit.c.key).where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)
    lines = (await tx.execute(new)).all()
    runs = tuple(line.key.removeprefix(RUN_KEY) for line in lines if line.key.startswith(RUN_KEY))
    return TracedPage(runs, (), lines[-1].seq if lines else None, len(lines) == limit)


async def runs(tx: AsyncConnection, ids: Iterable[str]) -> dict[str, TracedRun]:
    """Return the runs with these ids that ended."""
    found: dict[str, TracedRun] = {}
    for some in batches(ids):
        query = select(*_RUN).where(command_runs.c.id.in_(some), command_runs.c.state.in_(ENDED))
        found |= {run.id: run for run in await TracedRun.every(tx, query)}
    return found


async def known_runs(tx: AsyncConnection, ids: Iterable[str]) -> frozenset[str]:
    """Return those of these ids that runs have, ended or not."""
    found: set[str] = set()
    for some in batches(ids):
        found.update(await tx.scalars(select(command_runs.c.id).where(command_runs.c.id.in_(some))))
    return frozenset(found)


async def messages_of_turns(tx: AsyncConnection, turns: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the id of the message that each of these turns of agents is about, the newest one if there are several."""
    found: dict[tuple[str, str], str] = {}
    for agent in sorted({agent for agent, _ in turns}):
        wanted = sorted({turn for of, turn in turns if of == agent})
        of = (agent_messages.c.agent == agent, agent_messages.c.turn.in_(wanted))
        query = select(agent_messages.c.turn, agent_messages.c.id).where(*of).order_by(agent_messages.c.seq)
        found |= {(agent, row.turn): row.id for row in await tx.execute(query)}
    return found


async def tasks_of(tx: AsyncConnection, ids: Iterable[str]) -> dict[str, TracedTask]:
    """Return the tasks with these ids."""
    columns = [tasks.c[name] for name in TracedTask.__dataclass_fields__]
    found: dict[str, TracedTask] = {}
    for some in batches(ids):
        query = select(*columns).where(tasks.c.id.in_(some))
        found |= {task.id: task for task in await TracedTask.every(tx, query)}
    return found


async def agents_of(tx: AsyncConnection, names: Iterable[str]) -> dict[str, TracedAgent]:
    """Return the agents with these names."""
    columns = [agents.c[name] for name in TracedAgent.__dataclass_fields__]
    found: dict[str, TracedAgent] = {}
    for some in batches(names):
        query = select(*columns).where(agents.c.name.in_(some))
        found |= {agent.name: agent for agent in await TracedAgent.every(tx, query)}
    return found


async def _page(
    tx: AsyncConnection,
    kind: type[R],
    table: Table,
    source: str,
    columns: list[ColumnElement[Any]],
    ended: ColumnElement[bool],
    after: int,
    limit: int,
) -> TracedPage[R]:
    waiting = (
        select(trace_waiting.c.place.label("waited_for"), *columns)
        .select_from(trace_waiting.outerjoin(table, table.c.seq == trace_waiting.c.place))
        .where(trace_waiting.c.source == source, or_(table.c.seq.is_(None), ended))
        .order_by(trace_waiting.c.place)
        .limit(limit)
    )
    new = select(*columns).where(table.c.seq > after).order_by(table.c.seq).limit(limit)
    return await _found(tx, kind, waiting, new, limit)


async def _found(
    tx: AsyncConnection,
    kind: type[R],
    waiting: Select[Any],
    new: Select[Any],
    limit: int,
    *,
    go_on_waiting: bool = False,
) -> TracedPage[R]:
    waited = (await tx.execute(waiting)).all()
    fresh = (await tx.execute(new)).all()
    return TracedPage(
        rows=(*(kind.from_row(row) for row in waited if row.place is not None), *map(kind.from_row, fresh)),
        gone=tuple(row.waited_for for row in waited if row.place is None),
        until=fresh[-1].place if fresh else None,
        is_full=len(fresh) == limit or (not go_on_waiting and len(waited) == limit),
    )
