"""Permissions that were given or taken by command."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import upsert
from database.queries.record import Record
from database.schema import operators


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorRow(Record):
    identity: str
    #: none, viewer, operator or admin
    permission: str
    set_by: str
    set_at: float


async def every(tx: AsyncConnection) -> list[OperatorRow]:
    return await OperatorRow.every(tx, select(operators).order_by(operators.c.identity))


async def put(tx: AsyncConnection, row: OperatorRow) -> None:
    """Give `row.identity` this permission, whatever it had before."""
    await upsert(tx, operators, **row.columns())
