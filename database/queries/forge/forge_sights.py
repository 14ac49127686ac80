"""What was last seen at the forge of issues and pull requests that have a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import upsert
from database.queries.record import Record
from database.schema import forge_sights as table


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
    #: of an issue: what people are told of if it changes
    state: Mapping[str, Any]


async def get(tx: AsyncConnection, forge: str, repository: str, number: int) -> ForgeSight | None:
    those = (table.c.forge == forge, table.c.repository == repository, table.c.number == number)
    return await ForgeSight.one(tx, select(table).where(*those))


async def put(tx: AsyncConnection, sight: ForgeSight) -> None:
    """Add what was seen, or replace what was seen before."""
    await upsert(tx, table, **sight.columns())
