"""What came in: written once per (connector, event id) together with the cursor behind it, then handed out in order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, delete, func, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.contract import message_codec
from connectors.contract.messages import Batch, Inbound
from database.engine.batched_delete import BATCH
from database.engine.sqlite_driver import execute_along
from database.engine.store import insert_into, upsert
from database.queries.record import Record
from database.schema import cursors, inbox

State = Literal["new", "done", "failed"]

#: Rows that are looked up at once; fewer mean that there are no more.
PAGE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival(Record):
    """An inbound event that is in the inbox."""

    #: Its place in the inbox; later events have higher ones.
    seq: int
    inbound: Inbound
    #: When it was written to the inbox, seconds since the epoch.
    received_at: float

    @classmethod
    def from_row(cls, row: Row[Any]) -> Arrival:
        """Raises `CodecError` when the body is gone or unknown."""
        return cls.of(row._asdict())

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Arrival:
        """Return the event of a row's values. Raises `CodecError` when the body is gone or unknown."""
        return cls(
            seq=values["seq"],
            inbound=Inbound(
                connector=values["connector"],
                event_id=values["event_id"],
                conversation=values["conversation"],
                parent=values["parent"],
                sender=values["sender"],
                sent_at=values["sent_at"],
                body=message_codec.decode_inbound(values["body"]),
                groups=message_codec.decode_groups(values["body"]),
            ),
            received_at=values["received_at"],
        )


async def accept(tx: AsyncConnection, connector: str, batch: Batch, now: float) -> Arrival | None:
    """Write the events that are not there yet, in their order, and the cursor behind them.

    Returns:
        What was written if it is a single event, so that nobody needs to look it up; None in every other case.
    """
    arrival: Arrival | None = None
    if batch.events:
        values = [
            {
                "connector": connector,
                "event_id": event.event_id,
                "conversation": event.conversation,
                "parent": event.parent,
                "sender": event.sender,
                "sent_at": _moment(event.sent_at, now),
                "body": message_codec.encode_inbound(event),
                "received_at": now,
                "state": "new",
            }
            for event in batch.events
        ]
        put = insert_into(tx, inbox).on_conflict_do_nothing()
        if len(values) == 1:
            arrival = _written(await tx.scalar(put.returning(inbox.c.seq), values[0]), values[0])
        else:
            await tx.execute(put, values)
    if batch.cursor is not None:
        await set_cursor(tx, connector, batch.cursor, now)
    return arrival


def _written(seq: int | None, values: Mapping[str, Any]) -> Arrival | None:
    """Return the event as it will be read, or None if it was there already."""
    if seq is None:
        return None
    try:
        return Arrival.of({**values, "seq": seq})
    except (message_codec.CodecError, ValueError):
        return None  # whoever reads it reports that


def _moment(claimed: float, now: float) -> float:
    """Return when it was sent, as a number that a database takes; chat systems repeat what senders claim."""
    try:
        moment = float(claimed)
    except OverflowError:
        return now
    return moment if math.isfinite(moment) else now


async def cursor(tx: AsyncConnection, connector: str) -> str | None:
    """Return how far the connector has received; None when it never has."""
    found: str | None = await tx.scalar(select(cursors.c.cursor).where(cursors.c.connector == connector))
    return found


async def set_cursor(tx: AsyncConnection, connector: str, value: str, now: float) -> None:
    """Remember how far the connector has received."""
    await upsert(tx, cursors, connector=connector, cursor=value, updated_at=now)


async def unhandled(tx: AsyncConnection, *, after: int, limit: int = PAGE) -> Sequence[Row[Any]]:
    """Rows that no one has finished, in the order in which they came; for `Arrival.from_row`."""
    query = select(inbox).where(inbox.c.state == "new", inbox.c.seq > after)
    return (await tx.execute(query.order_by(inbox.c.seq).limit(limit))).all()


async def finish(
    tx: AsyncConnection, seq: int, now: float, *, state: State = "done", detail: str | None = None, forget: bool = False
) -> None:
    """The event was dealt with; to be called in the transaction of whatever it caused.

    Args:
        tx: the transaction.
        seq: `Arrival.seq`.
        now: seconds since the epoch.
        state: `done`, or `failed` when Muster could not deal with it.
        detail: what happened to it, for people.
        forget: drop the body at once (the key stays), for what strangers wrote.
    """
    values: dict[str, Any] = {"state": state, "detail": detail, "handled_at": now}
    if forget:
        values["body"] = null()
    await execute_along(tx, update(inbox).where(inbox.c.seq == seq, inbox.c.state == "new").values(**values))


async def find(tx: AsyncConnection, connector: str, event_id: str) -> Arrival | None:
    """Return an event that came in and whose body is still kept."""
    query = select(inbox).where(inbox.c.connector == connector, inbox.c.event_id == event_id, inbox.c.body.is_not(None))
    return await Arrival.one(tx, query)


async def waiting(tx: AsyncConnection) -> int:
    """Return how many events no one has finished yet."""
    return await tx.scalar(select(func.count()).select_from(inbox).where(inbox.c.state == "new")) or 0


async def clear_bodies(tx: AsyncConnection, before: float) -> int:
    """Drop the bodies of events that were finished before `before`; their keys stay. A batch; says how many."""
    old = (
        select(inbox.c.seq)
        .where(inbox.c.state != "new", inbox.c.handled_at < before, inbox.c.body.is_not(None))
        .order_by(inbox.c.seq)
        .limit(BATCH)
    )
    return (await tx.execute(update(inbox).where(inbox.c.seq.in_(old)).values(body=null()))).rowcount


async def forget_keys(tx: AsyncConnection, before: float) -> int:
    """Delete a batch of events that were finished before `before`, which must lie beyond any backfill."""
    newest = select(func.max(inbox.c.seq)).scalar_subquery()  # never deleted, so that no place is given twice
    old = (
        select(inbox.c.seq)
        .where(inbox.c.state != "new", inbox.c.handled_at < before, inbox.c.seq < newest)
        .order_by(inbox.c.seq)
        .limit(BATCH)
    )
    return (await tx.execute(delete(inbox).where(inbox.c.seq.in_(old)))).rowcount
