"""When reports are posted, as commands said."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.queries.record import Record
from database.schema import schedules


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleRow(Record):
    """What a command said of one kind of report."""

    kind: str
    #: Empty: it is off. Of what is not posted by the clock, any text: it is on.
    cron: str
    #: The zone in which it was meant, like Europe/Vienna.
    zone: str
    set_by: str
    set_at: float


async def every(tx: AsyncConnection) -> list[ScheduleRow]:
    """Return what was said of all kinds."""
    return await ScheduleRow.every(tx, select(schedules).order_by(schedules.c.kind))


async def put(tx: AsyncConnection, row: ScheduleRow) -> None:
    """Say it; what was said of the kind before is forgotten."""
    await tx.execute(delete(schedules).where(schedules.c.kind == row.kind))
    await tx.execute(insert(schedules), [asdict(row)])


async def remove(tx: AsyncConnection, kind: str) -> bool:
    """Forget what was said of a kind; False: nothing was."""
    return (await tx.execute(delete(schedules).where(schedules.c.kind == kind))).rowcount > 0
