"""Calls of Muster's own tools by agents, from the journal's entry to the answer that was brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import tool_calls


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCallRow(Record):
    id: str
    agent: str
    #: As the agent's journal names it.
    call: str
    tool: str
    arguments: Mapping[str, Any]
    #: To be done even if no one waits for it.
    queued: bool
    #: pending, done (the answer is on its way) or over
    state: str
    asked_at: float
    updated_at: float
    #: ``text`` and ``ok``
    reply: Mapping[str, Any] | None = None
    #: In which it was called; None: in none.
    turn: str | None = None


async def add(tx: AsyncConnection, call: ToolCallRow) -> bool:
    """Take up a call; False, and nothing is changed, when it is known."""
    return await insert_once(tx, tool_calls, **call.columns())


async def open_calls(tx: AsyncConnection, *, limit: int = 500) -> list[ToolCallRow]:
    """Return those that are not over, oldest first."""
    table = tool_calls
    found = select(table).where(table.c.state.in_(["pending", "done"])).order_by(table.c.asked_at, table.c.id)
    return await ToolCallRow.every(tx, found.limit(limit))


async def change(tx: AsyncConnection, call_id: str, *, only: Sequence[str], now: float, **values: object) -> bool:
    """Set columns of a call that is in one of the states `only`; False when it is in none of them."""
    where = (tool_calls.c.id == call_id, tool_calls.c.state.in_(only))
    return (await tx.execute(update(tool_calls).where(*where).values(updated_at=now, **values))).rowcount > 0


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete calls that were over before `before`, a batch of them; return how many."""
    where = (tool_calls.c.state == "over", tool_calls.c.updated_at < before)
    return await delete_some(tx, tool_calls, *where)
