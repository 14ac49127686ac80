"""Whose the threads are that Muster opens: to whom words in them go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import insert_once
from database.schema import thread_owners

Kind = Literal["agent", "task"]


@dataclass(frozen=True, slots=True)
class Owner:
    """An agent by its name, a task by its id."""

    kind: str
    name: str


async def note(tx: AsyncConnection, thread: str, kind: Kind, owner: str) -> None:
    """Write down whose a thread is, in the transaction that opens it; a thread keeps its owner.

    Args:
        tx: that transaction.
        thread: the outbox key of the message that opens it.
        kind: what owns it.
        owner: the agent's name, the task's id.
    """
    await insert_once(tx, thread_owners, thread=thread, kind=kind, owner=owner)


async def of(tx: AsyncConnection, thread: str) -> Owner | None:
    """Return whose thread this is; None: no one wrote it down."""
    table = thread_owners
    row = (await tx.execute(select(table.c.kind, table.c.owner).where(table.c.thread == thread))).one_or_none()
    return None if row is None else Owner(row.kind, row.owner)


async def give_up(tx: AsyncConnection, agent: str) -> None:
    """Write down that the threads of an agent are nobody's any more, so that no later agent of its name gets them."""
    table = thread_owners
    mine = (table.c.kind == "agent", table.c.owner == agent)
    await tx.execute(update(table).where(*mine).values(owner=f"{agent} (forgotten)"))
