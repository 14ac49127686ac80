"""Deleting in small steps, so that no one waits long for the register.

A step deletes at most `BATCH` rows. Whoever deletes more takes a transaction for each step, until a step deletes fewer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy import ColumnElement, Table, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from core.crash_points import Step
from database.engine.store import Store

#: Rows of one step: some milliseconds.
BATCH: Final = 500


async def delete_some(tx: AsyncConnection, table: Table, *where: ColumnElement[bool]) -> int:
    """Delete at most `BATCH` of the rows that match; return how many went."""
    key = list(table.primary_key)
    some = select(*key).where(*where).limit(BATCH)
    one = key[0] if len(key) == 1 else tuple_(*key)
    return (await tx.execute(delete(table).where(one.in_(some)))).rowcount


async def drain(store: Store, step: Step, work: Callable[[AsyncConnection], Awaitable[int]]) -> int:
    """Repeat `work` in transactions of its own while it deletes whole batches; return how many rows went."""
    total = 0
    while True:
        async with store.write(step) as tx:
            count = await work(tx)
        total += count
        if count < BATCH:
            return total
