"""What a forge told, or what was found by looking there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.store import insert_into
from database.queries.record import Record
from database.schema import forge_cursors, forge_events


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgeEventRow(Record):
    forge: str
    #: the webhook's id, or what was found and when it had changed
    delivery: str
    name: str
    repository: str
    number: int | None
    sha: str | None
    received_at: float
    handled_at: float | None = None


@dataclass(frozen=True, slots=True)
class WaitingEvents:
    """All events that wait about one issue, pull request or commit: a storm of them is one."""

    repository: str
    number: int | None
    sha: str | None
    newest: int
    """The greatest `seq`: what comes later is not among them."""
    first_at: float
    count: int


async def add(tx: AsyncConnection, rows: Sequence[ForgeEventRow]) -> int:
    """Add events with one statement; those that stand there already are left alone. Return how many are new."""
    # With RETURNING, SQLAlchemy makes one statement of all rows. The driver's own way is one for each, and between them
    # its thread waits for the interpreter's lock.
    add_all = insert_into(tx, forge_events).on_conflict_do_nothing().returning(forge_events.c.seq)
    return len((await tx.execute(add_all, [row.columns() for row in rows])).all()) if rows else 0


async def waiting(tx: AsyncConnection, *, limit: int) -> list[ForgeEventRow]:
    """Return events that were not handled, the oldest first."""
    query = select(forge_events).where(forge_events.c.handled_at.is_(None)).order_by(forge_events.c.seq).limit(limit)
    return await ForgeEventRow.every(tx, query)


async def waiting_groups(tx: AsyncConnection, forge: str, *, limit: int) -> list[WaitingEvents]:
    """Return events of a forge that were not handled, by what they are about; the oldest first."""
    table = forge_events.c
    query = (
        select(
            *(table.repository, table.number, table.sha),
            *(func.max(table.seq), func.min(table.received_at), func.count()),
        )
        .where(table.handled_at.is_(None), table.forge == forge)
        .group_by(table.repository, table.number, table.sha)
        .order_by(func.min(table.seq))
        .limit(limit)
    )
    return [WaitingEvents(*row) for row in await tx.execute(query)]


async def count_waiting(tx: AsyncConnection, forge: str) -> int:
    """Return how many events of a forge were not handled."""
    query = select(func.count()).where(forge_events.c.handled_at.is_(None), forge_events.c.forge == forge)
    return await tx.scalar(query) or 0


async def handled_group(tx: AsyncConnection, forge: str, group: WaitingEvents, now: float) -> None:
    """Record that all of a group were handled, but not what came after it was read."""
    table = forge_events.c
    those = (
        *(table.forge == forge, table.repository == group.repository, table.seq <= group.newest),
        *(table.number.is_not_distinct_from(group.number), table.sha.is_not_distinct_from(group.sha)),
        table.handled_at.is_(None),
    )
    await tx.execute(update(forge_events).where(*those).values(handled_at=now))


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete some of the events that were handled before `before`; return how many."""
    return await delete_some(tx, forge_events, forge_events.c.handled_at < before)


async def looked_until(tx: AsyncConnection, forge: str, repository: str) -> float | None:
    """Return up to which moment, by the forge's clock, a repository was looked through; None: never."""
    those = (forge_cursors.c.forge == forge, forge_cursors.c.repository == repository)
    found: float | None = await tx.scalar(select(forge_cursors.c.looked_until).where(*those))
    return found


async def move(tx: AsyncConnection, forge: str, repository: str, looked_until_: float) -> None:
    """Record up to which moment a repository was looked through."""
    those = (forge_cursors.c.forge == forge, forge_cursors.c.repository == repository)
    await tx.execute(delete(forge_cursors).where(*those))
    await tx.execute(insert(forge_cursors).values(forge=forge, repository=repository, looked_until=looked_until_))
