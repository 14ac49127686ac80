"""What goes out: one row per thing to say, put in the transaction of whatever caused it.

`put` is how anything is said. `connectors.delivery.service` sends what is pending, in order per lane, and writes down
what became of it: `sent`, `dead` (a dead letter, to be retried by a person), or `superseded` (something newer says it).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row as ResultRow
from sqlalchemy import and_, bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from connectors.contract import message_codec
from connectors.contract.messages import Outbound, OutboundContent, Priority, React, Replace, Retitle, Sent
from database.engine.batched_delete import BATCH
from database.engine.sqlite_driver import execute_along
from database.engine.store import insert_into, insert_once, next_place
from database.queries.record import Record
from database.schema import outbox

State = Literal["pending", "sent", "dead", "superseded"]

#: Rows that are looked up at once; fewer mean that there are no more.
PAGE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Row(Record):
    """One thing to say, and what happened to it so far."""

    #: Its place in the outbox; a retried row moves to the end.
    seq: int
    #: What to say and where; `outbound.key` is the row's identity and the transaction id on the wire.
    outbound: Outbound
    state: State
    #: When it was put, or put back; it is given up a while after that.
    created_at: float
    #: Not to be tried before.
    not_before: float = 0.0
    attempts: int = 0
    #: Since when the chat system may know its key.
    first_attempt_at: float | None = None
    #: The connector's scope at that time.
    attempt_scope: str | None = None
    sent_at: float | None = None
    #: What the chat system calls the message.
    event_id: str | None = None
    #: For `OpenThread`: the conversation that it made.
    made_conversation: str | None = None
    #: Why it is dead or superseded, or what went wrong at the last attempt.
    detail: str | None = None

    @property
    def key(self) -> str:
        return self.outbound.key

    @classmethod
    def from_row(cls, row: ResultRow[Any]) -> Row:
        """Raises `CodecError` when the content is of an unknown kind."""
        return cls(
            outbound=Outbound(
                key=row.key,
                connector=row.connector,
                conversation=row.conversation,
                thread_of=row.thread_of,
                content=message_codec.decode_outbound(row.content),
                priority=Priority(row.priority),
            ),
            **{name: row._mapping[name] for name in cls.__dataclass_fields__ if name != "outbound"},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxRowState:
    """What happened to a row that others refer to."""

    state: State | Literal["missing"]
    event_id: str | None = None
    conversation: str | None = None
    """Where it was to be said, as far as that is known."""
    made_conversation: str | None = None


def own_target(content: OutboundContent) -> str | None:
    """Return the outbox key of the message of ours that `content` is about."""
    if isinstance(content, Replace) or (isinstance(content, React) and content.own):
        return content.target
    return None


def lane_of(outbound: Outbound) -> str:
    """Return the lane in which `outbound` waits: what is in one lane goes out in order, one at a time.

    Messages, files and threads of one conversation share a lane; changes of one message have theirs, and so have
    reactions to it, so that what it says now never waits for marks; and so has a thread's name.
    """
    place = f"thread {outbound.thread_of}" if outbound.conversation is None else f"conversation {outbound.conversation}"
    match outbound.content:
        case Replace(target=target):
            return f"message {target}"
        case React(target=target, own=True):
            return f"marks {target}"
        case React(target=target):
            return f"{place} event {target}"
        case Retitle():
            return f"title {place}"
        case _:
            return place


async def put(tx: AsyncConnection, outbound: Outbound, now: float) -> None:
    """Say something, in the transaction of what caused it. If its key is known, nothing changes."""
    await execute_along(tx, insert_into(tx, outbox).on_conflict_do_nothing(), _new_row(outbound, now))


async def put_first(tx: AsyncConnection, outbound: Outbound, now: float) -> bool:
    """Do what `put` does, and return whether the key is new."""
    return await insert_once(tx, outbox, **_new_row(outbound, now))


def _new_row(outbound: Outbound, now: float) -> dict[str, object]:
    return {
        "key": outbound.key,
        "connector": outbound.connector,
        "conversation": outbound.conversation,
        "thread_of": outbound.thread_of,
        "target": own_target(outbound.content),
        "lane": lane_of(outbound),
        "priority": int(outbound.priority),
        "content": message_codec.encode(outbound.content),
        "state": "pending",
        "created_at": now,
        "not_before": 0.0,
        "attempts": 0,
    }


async def get(tx: AsyncConnection, key: str) -> Row | None:
    """Return the row with that key."""
    return await Row.one(tx, select(outbox).where(outbox.c.key == key))


async def rows(tx: AsyncConnection, *keys: str) -> dict[str, Row]:
    """Return the rows with these few keys, by key."""
    return {row.outbound.key: row for row in await Row.every(tx, select(outbox).where(outbox.c.key.in_(keys)))}


async def by_event(tx: AsyncConnection, connector: str, event_id: str) -> Row | None:
    """Return the message of ours that the chat system calls `event_id`."""
    query = select(outbox).where(outbox.c.connector == connector, outbox.c.event_id == event_id)
    # An edit can carry its message's id in some chat systems; the message itself came first.
    return await Row.one(tx, query.order_by(outbox.c.seq).limit(1))


async def by_conversation(tx: AsyncConnection, connector: str, conversation: str) -> Row | None:
    """Return the opener of the thread that `conversation` is."""
    query = select(outbox).where(outbox.c.connector == connector, outbox.c.made_conversation == conversation)
    return await Row.one(tx, query.order_by(outbox.c.seq).limit(1))


async def pending(
    tx: AsyncConnection, connector: str, *, after: int = 0, limit: int = PAGE
) -> Sequence[ResultRow[Any]]:
    """Return what waits to be said, in the order in which it was put; for `Row.from_row`."""
    query = select(outbox).where(outbox.c.state == "pending", outbox.c.connector == connector, outbox.c.seq > after)
    return (await tx.execute(query.order_by(outbox.c.seq).limit(limit))).all()


async def undecided(tx: AsyncConnection, connector: str, *, begins: Sequence[str]) -> bool:
    """Return whether a message was tried of which it is not known yet whether it stands, and under which event id.

    Args:
        begins: with what the keys of the messages begin that are asked about.
    """
    query = select(outbox.c.seq).where(
        outbox.c.state == "pending",
        outbox.c.connector == connector,
        outbox.c.attempts > 0,
        outbox.c.target.is_(None),
        or_(*(outbox.c.key.startswith(prefix, autoescape=True) for prefix in begins)),
    )
    return await tx.scalar(query.limit(1)) is not None


async def counts(tx: AsyncConnection) -> dict[tuple[str, State], int]:
    """Return how many rows each connector has in each state."""
    query = select(outbox.c.connector, outbox.c.state, func.count()).group_by(outbox.c.connector, outbox.c.state)
    return {(connector, state): count for connector, state, count in await tx.execute(query)}


async def waiting(tx: AsyncConnection) -> dict[str, tuple[int, float]]:
    """Return how many rows wait for each connector for which any do, and since when the oldest does."""
    waits = select(outbox.c.connector, func.count(), func.min(outbox.c.created_at)).where(outbox.c.state == "pending")
    return {name: (count, since) for name, count, since in await tx.execute(waits.group_by(outbox.c.connector))}


async def abandon(tx: AsyncConnection, connector: str, before: float, detail: str) -> int:
    """Give up what was put before `before` for a connector that no one runs. A batch; says how many."""
    where = (outbox.c.state == "pending", outbox.c.connector == connector, outbox.c.created_at < before)
    old = select(outbox.c.seq).where(*where).order_by(outbox.c.seq).limit(BATCH)
    dead = update(outbox).where(outbox.c.seq.in_(old)).values(state="dead", detail=detail)
    return (await tx.execute(dead)).rowcount


async def dead_letters(tx: AsyncConnection, *, limit: int = 200) -> list[Row]:
    """Return what could not be said, newest first; without changes of a dead message, which share its fate."""
    target = aliased(outbox)
    query = (
        select(outbox)
        .outerjoin(target, and_(target.c.key == outbox.c.target, target.c.state == "dead"))
        .where(outbox.c.state == "dead", target.c.key.is_(None))
        .order_by(outbox.c.seq.desc())
        .limit(limit)
    )
    found = []
    for row in await tx.execute(query):
        try:
            found.append(Row.from_row(row))
        except message_codec.CodecError:
            continue  # a newer version wrote it and will list it
    return found


async def retry(tx: AsyncConnection, key: str, now: float) -> str | None:
    """Put a dead letter back, behind what waits already, with the changes that died with it. None: it is not dead.

    It keeps what is known of its earlier attempts, so a message that stands after all is not said twice. A change of
    which there is a newer one is left out, and the newer one put back if it is dead too: the newest text stands.

    Returns:
        The key of what is said: this one, or the newer one.
    """
    dead = await get(tx, key)
    if dead is None or dead.state != "dead":
        return None
    newest = await _last_change(tx, dead)
    if newest.key != key:
        await close(tx, [key], "superseded", f"{newest.key} is newer", of="dead")
        return await retry(tx, newest.key, now) if newest.state == "dead" else newest.key
    query = select(outbox.c.seq).where(outbox.c.state == "dead", or_(outbox.c.key == key, outbox.c.target == key))
    for seq in (await tx.execute(query.order_by(outbox.c.seq))).scalars().all():
        again = {"seq": await next_place(tx, outbox.c.seq), "state": "pending", "created_at": now}
        await tx.execute(update(outbox).where(outbox.c.seq == seq).values(**again, not_before=0.0, detail=None))
    return key


async def _last_change(tx: AsyncConnection, row: Row) -> Row:
    """Of the changes of a message that were not left out, the one that has the last word; of anything else, itself."""
    if not isinstance(row.outbound.content, Replace):
        return row
    query = select(outbox).where(outbox.c.target == row.outbound.content.target, outbox.c.state != "superseded")
    found = await Row.every(tx, query)
    changes = [
        (content.final, each.seq, each) for each in found if isinstance(content := each.outbound.content, Replace)
    ]
    return max(changes, key=lambda change: change[:2], default=(False, 0, row))[2]


# --- what the sender writes down ---------------------------------------------------------------------------------


async def mark_attempted(tx: AsyncConnection, keys: Collection[str], *, scope: str, now: float) -> None:
    """These are about to be sent. Where none was tried before, the chat system may know the key from now on."""
    await execute_along(
        tx,
        update(outbox)
        .where(outbox.c.key.in_(keys))
        .values(
            attempts=outbox.c.attempts + 1,
            first_attempt_at=func.coalesce(outbox.c.first_attempt_at, now),
            attempt_scope=func.coalesce(outbox.c.attempt_scope, scope),
        ),
    )


async def restamp(tx: AsyncConnection, key: str, *, scope: str, now: float) -> None:
    """No earlier attempt stands: the chat system may know the key from now on, under `scope`."""
    await tx.execute(update(outbox).where(outbox.c.key == key).values(first_attempt_at=now, attempt_scope=scope))


async def mark_sent(tx: AsyncConnection, sent: Mapping[str, Sent], now: float) -> None:
    """The chat system has these."""
    statement = (
        update(outbox)
        .where(outbox.c.key == bindparam("sent_key"))
        .values(
            state="sent",
            sent_at=now,
            event_id=bindparam("sent_event"),
            made_conversation=bindparam("sent_made"),
            detail=None,
        )
    )
    values = [
        {
            "sent_key": key,
            "sent_event": one.event_id,
            "sent_made": one.conversation,
        }
        for key, one in sent.items()
    ]
    await execute_along(tx, statement, values)


async def mark_later(tx: AsyncConnection, key: str, *, not_before: float, detail: str) -> None:
    """It was not taken this time."""
    values = {"not_before": not_before, "detail": detail}
    await tx.execute(update(outbox).where(outbox.c.key == key).values(**values))


async def close(
    tx: AsyncConnection,
    keys: Iterable[str],
    state: Literal["dead", "superseded"],
    detail: str,
    *,
    of: Literal["pending", "dead"] = "pending",
) -> None:
    """These will not be sent (again), and why."""
    await tx.execute(
        update(outbox).where(outbox.c.key.in_(list(keys)), outbox.c.state == of).values(state=state, detail=detail)
    )


async def rewrite(tx: AsyncConnection, key: str, content: OutboundContent, priority: Priority) -> None:
    """Say something newer in a message that was never tried."""
    await tx.execute(
        update(outbox)
        .where(outbox.c.key == key, outbox.c.attempts == 0)
        .values(content=message_codec.encode(content), priority=int(priority))
    )


async def standing(tx: AsyncConnection, keys: Collection[str]) -> dict[str, OutboxRowState]:
    """Return what happened to the rows with these keys."""
    opener = aliased(outbox)
    place = func.coalesce(outbox.c.conversation, opener.c.made_conversation, opener.c.conversation)
    columns = (outbox.c.key, outbox.c.state, outbox.c.event_id, outbox.c.made_conversation, place.label("place"))
    found: dict[str, OutboxRowState] = {}
    wanted = list(keys)
    for start in range(0, len(wanted), 500):  # SQLite takes a bounded number of parameters
        query = (
            select(*columns)
            .select_from(outbox)
            .outerjoin(opener, opener.c.key == outbox.c.thread_of)
            .where(outbox.c.key.in_(wanted[start : start + 500]))
        )
        for row in await tx.execute(query):
            found[row.key] = OutboxRowState(
                state=row.state,
                event_id=row.event_id,
                conversation=row.place,
                made_conversation=row.made_conversation,
            )
    return found


async def delete_old(tx: AsyncConnection, before: float) -> int:
    """Delete what is no longer pending and was put before `before`, a batch of it; says how many.

    Openers of threads stay, since their threads go on, and so do messages that a kept row is about.
    """
    about = select(outbox.c.target).where(outbox.c.target.is_not(None))
    newest = select(func.max(outbox.c.seq)).scalar_subquery()  # never deleted, so that no place is given twice
    old = (
        select(outbox.c.seq)
        .where(
            outbox.c.state != "pending",
            outbox.c.created_at < before,
            outbox.c.made_conversation.is_(None),
            outbox.c.key.not_in(about),
            outbox.c.seq < newest,
        )
        .order_by(outbox.c.seq)
        .limit(BATCH)
    )
    return (await tx.execute(delete(outbox).where(outbox.c.seq.in_(old)))).rowcount
