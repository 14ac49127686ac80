"""Permissions that were given or taken by command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import insert_once
from database.schema import operators


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorRow:
    identity: str
    #: none, viewer, operator or admin
    permission: str
    set_by: str
    set_at: float

    @classmethod
    def from_row(cls, row: Row[Any]) -> OperatorRow:
        return cls(**{name: row._mapping[name] for name in cls.__dataclass_fields__})


async def every(tx: AsyncConnection) -> list[OperatorRow]:
    return [OperatorRow.from_row(row) for row in await tx.execute(select(operators).order_by(operators.c.identity))]


async def put(tx: AsyncConnection, row: OperatorRow) -> None:
    """Give `row.identity` this permission, whatever it had before."""
    values = {name: getattr(row, name) for name in OperatorRow.__dataclass_fields__}
    if not await insert_once(tx, operators, **values):
        await tx.execute(update(operators).where(operators.c.identity == row.identity).values(**values))
