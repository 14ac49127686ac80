"""What the watchdog told and what still holds, so that nothing is told twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.id_batches import batches
from database.queries.record import Record
from database.schema import findings

#: A job that fails, and one that failed and is well again (scheduler.job_alert_policy).
JOB_FAILS, JOB_WELL = JOB_KINDS = ("job", "job_well")
#: A chat system that is out of reach; its `cause` is the connector's name (bot.monitoring.connector_outages).
CONNECTOR = "connector"


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingRow(Record):
    """One finding that stands. Times are seconds since the epoch."""

    key: str
    #: fleet.supervision.health_findings.Kind
    kind: str
    agent: str | None
    #: What findings of many agents have in common.
    cause: str
    #: The outbox key of the message that told it, alone or together with others.
    event: str
    found_at: float
    #: When it was told last.
    told_at: float
    tells: int = 1


async def every(tx: AsyncConnection) -> list[FindingRow]:
    """Everything that stands about agents and the fleet, oldest first."""
    query = select(findings).where(findings.c.kind.not_in((*JOB_KINDS, CONNECTOR)))
    return await FindingRow.every(tx, query.order_by(findings.c.found_at, findings.c.key))


async def of_jobs(tx: AsyncConnection) -> list[FindingRow]:
    """Return what stands about jobs, oldest first."""
    return await _of_kinds(tx, JOB_KINDS)


async def of_connectors(tx: AsyncConnection) -> list[FindingRow]:
    """Return which connectors were told to be out of reach, oldest first."""
    return await _of_kinds(tx, (CONNECTOR,))


async def _of_kinds(tx: AsyncConnection, kinds: Sequence[str]) -> list[FindingRow]:
    query = select(findings).where(findings.c.kind.in_(kinds))
    return await FindingRow.every(tx, query.order_by(findings.c.found_at, findings.c.key))


async def put(tx: AsyncConnection, rows: Sequence[FindingRow]) -> None:
    """Write these down; what is under their keys is replaced."""
    if rows:
        await forget(tx, [row.key for row in rows])
        await tx.execute(insert(findings), [asdict(row) for row in rows])


async def forget(tx: AsyncConnection, keys: Collection[str]) -> None:
    """These are over."""
    for some in batches(keys):
        await tx.execute(delete(findings).where(findings.c.key.in_(some)))
