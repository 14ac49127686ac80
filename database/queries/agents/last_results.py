"""When each agent last had something to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import results

Kind = Literal["commit", "task", "report", "answer", "launch"]

#: Noted so far ahead of now it was by a clock that was wrong, seconds.
AHEAD_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class VisibleResult(Record):
    agent: str
    at: float
    #: commit, task, report, answer (of an operator), or launch
    kind: Kind


async def note(tx: AsyncConnection, agent: str, kind: Kind, at: float) -> None:
    """Write that an agent had something to show at `at`; what is older than what is known changes nothing.

    A report counts once until there is something else to show: words alone are to be had at any time.
    """
    if await insert_once(tx, results, agent=agent, at=at, kind=kind):
        return
    later = results.c.at < at
    if kind == "report":
        later = and_(later, results.c.kind != "report")
    those = (results.c.agent == agent, or_(later, results.c.at > at + AHEAD_S))
    await tx.execute(update(results).where(*those).values(at=at, kind=kind))


async def every(tx: AsyncConnection) -> dict[str, VisibleResult]:
    """By agent."""
    return {row.agent: row for row in await VisibleResult.every(tx, select(results))}


async def get(tx: AsyncConnection, agent: str) -> VisibleResult | None:
    return await VisibleResult.one(tx, select(results).where(results.c.agent == agent))
