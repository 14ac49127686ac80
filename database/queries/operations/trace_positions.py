"""How far each table was looked through for traces, and the rows before that which had not ended then."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import insert_into, upsert
from database.schema import trace_positions, trace_waiting


async def every(tx: AsyncConnection) -> dict[str, int]:
    """Return the place of each table that was looked through; nothing if no traces were ever sent."""
    found = await tx.execute(select(trace_positions.c.source, trace_positions.c.place))
    return {row.source: row.place for row in found}


async def move(tx: AsyncConnection, places: Mapping[str, int], now: float) -> None:
    """Write how far these tables were looked through."""
    for source, place in sorted(places.items()):
        await upsert(tx, trace_positions, source=source, place=place, moved_at=now)


async def wait_for(tx: AsyncConnection, source: str, places: Collection[int]) -> None:
    """Remember rows that have not ended."""
    if places:
        rows = [{"source": source, "place": place} for place in sorted(places)]
        await tx.execute(insert_into(tx, trace_waiting).on_conflict_do_nothing(), rows)


async def settle(tx: AsyncConnection, source: str, places: Collection[int]) -> None:
    """Forget rows of which nothing more is sent."""
    if places:
        of = (trace_waiting.c.source == source, trace_waiting.c.place.in_(places))
        await tx.execute(delete(trace_waiting).where(*of))


async def forget(tx: AsyncConnection) -> None:
    """Forget all of it, so that traces begin with what comes next."""
    await tx.execute(delete(trace_positions))
    await tx.execute(delete(trace_waiting))
