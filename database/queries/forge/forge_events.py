"""What a forge told, or what was found by looking there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.store import insert_once
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


async def add(tx: AsyncConnection, rows: Sequence[ForgeEventRow]) -> int:
    """Add events; those that stand there already are left alone. Return how many are new."""
    new = 0
    for row in rows:
        new += await insert_once(tx, forge_events, **row.columns())
    return new


async def waiting(tx: AsyncConnection, *, limit: int) -> list[ForgeEventRow]:
    """Return events that were not handled, the oldest first."""
    query = select(forge_events).where(forge_events.c.handled_at.is_(None)).order_by(forge_events.c.seq).limit(limit)
    return await ForgeEventRow.every(tx, query)


async def handled(tx: AsyncConnection, forge: str, deliveries: Collection[str], now: float) -> None:
    """Record that events were handled."""
    those = (forge_events.c.forge == forge, forge_events.c.delivery.in_(deliveries))
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
