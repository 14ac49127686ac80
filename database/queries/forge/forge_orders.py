"""What Muster is to do for runs of issues, recorded before it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import forge_orders as table


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgeOrder(Record):
    #: RUN/ROUND/STEP, or another key that names the effect: what is ordered twice under one key is done once
    key: str
    run: str
    kind: str
    input: Mapping[str, Any]
    state: Literal["open", "done"] = "open"
    outcome: Mapping[str, Any] | None = None
    tries: int = 0
    try_at: float
    #: why the last try did nothing
    detail: str | None = None
    created_at: float
    ended_at: float | None = None


async def add(tx: AsyncConnection, order: ForgeOrder) -> bool:
    """Add an order; False if there is one of this key."""
    return await insert_once(tx, table, **order.columns())


async def get(tx: AsyncConnection, key: str) -> ForgeOrder | None:
    return await ForgeOrder.one(tx, select(table).where(table.c.key == key))


async def due(tx: AsyncConnection, now: float, *, limit: int) -> list[ForgeOrder]:
    """Return open orders whose time has come, the oldest first."""
    query = select(table).where(table.c.state == "open", table.c.try_at <= now)
    return await ForgeOrder.every(tx, query.order_by(table.c.try_at, table.c.created_at, table.c.key).limit(limit))


async def open_keys(tx: AsyncConnection) -> set[str]:
    """Return the keys of all open orders."""
    return set(await tx.scalars(select(table.c.key).where(table.c.state == "open")))


async def next_at(tx: AsyncConnection) -> float | None:
    """Return when the next open order is due; None if there is none."""
    found: float | None = await tx.scalar(select(func.min(table.c.try_at)).where(table.c.state == "open"))
    return found


async def of_run(tx: AsyncConnection, run: str) -> list[ForgeOrder]:
    """Return all orders of a run, in the order of their creation."""
    return await ForgeOrder.every(tx, select(table).where(table.c.run == run).order_by(table.c.created_at, table.c.key))


async def done(tx: AsyncConnection, key: str, outcome: Mapping[str, Any], now: float) -> bool:
    """Record the outcome of an order. The first one stays: False if there is one."""
    values = {"state": "done", "outcome": dict(outcome), "detail": None, "ended_at": now}
    where = (table.c.key == key, table.c.state == "open")
    return (await tx.execute(update(table).where(*where).values(**values))).rowcount > 0


async def again(tx: AsyncConnection, key: str, *, try_at: float, detail: str) -> bool:
    """Record that a try did nothing, and when the next one is. False if there is an outcome."""
    values = {"tries": table.c.tries + 1, "try_at": try_at, "detail": detail}
    where = (table.c.key == key, table.c.state == "open")
    return (await tx.execute(update(table).where(*where).values(**values))).rowcount > 0
