"""What was last seen at the forge of issues and pull requests that have a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.id_batches import batches
from database.engine.store import upsert
from database.queries.record import Record
from database.schema import forge_sights as table
from database.schema import issue_runs


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgeSight(Record):
    forge: str
    repository: str
    number: int
    run: str
    #: the newest comment that was considered
    comments_after: int
    #: when the newest of them had changed, by the forge's clock; None: none was
    comments_since: float | None
    #: what people are told of if it changes: of an issue `IssueSight`, of a pull request `PullSight`
    state: Mapping[str, Any]


async def get(tx: AsyncConnection, forge: str, repository: str, number: int) -> ForgeSight | None:
    those = (table.c.forge == forge, table.c.repository == repository, table.c.number == number)
    return await ForgeSight.one(tx, select(table).where(*those))


async def of_pull_requests(tx: AsyncConnection, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return the states of the pull requests of these runs, by run."""
    found: dict[str, Mapping[str, Any]] = {}
    of_run = (table.c.run == issue_runs.c.id, table.c.number == issue_runs.c.pull_request)
    for some in batches(ids):
        query = select(table.c.run, table.c.state).join(issue_runs, and_(*of_run)).where(table.c.run.in_(some))
        found |= {run: state for run, state in await tx.execute(query)}
    return found


async def put(tx: AsyncConnection, sight: ForgeSight) -> None:
    """Add what was seen, or replace what was seen before."""
    await upsert(tx, table, **sight.columns())
