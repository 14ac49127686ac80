"""What the threads are called that Muster names: the newest name of each, whether or not its chat system has it yet."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import insert_once
from database.schema import outbox, titles


async def rename(tx: AsyncConnection, thread: str, title: str, *, archived: bool, again: bool = False) -> int | None:
    """Write down what a thread is called from now on.

    Args:
        tx: the transaction that has it renamed.
        thread: the outbox key of the message that opens it.
        title: its name.
        archived: whether it is put away.
        again: it counts as another name, also where it is the same.

    Returns:
        How often it was renamed, this time included; None: it is called so already.
    """
    where = titles.c.thread == thread
    known = (await tx.execute(select(titles).where(where))).one_or_none()
    if known is None:
        await insert_once(tx, titles, thread=thread, title=title, archived=archived, changes=1)
        return 1
    if (known.title, known.archived) == (title, archived) and not again:
        return None
    changes: int = known.changes + 1
    await tx.execute(update(titles).where(where).values(title=title, archived=archived, changes=changes))
    return changes


async def put_away(tx: AsyncConnection, connector: str, conversation: str) -> tuple[str, str] | None:
    """Return the outbox key of a thread's opener, and its name, where the thread is put away; None: it is not."""
    query = select(titles.c.thread, titles.c.title).join(outbox, outbox.c.key == titles.c.thread)
    where = (titles.c.archived, outbox.c.connector == connector, outbox.c.made_conversation == conversation)
    row = (await tx.execute(query.where(*where))).one_or_none()
    return None if row is None else (row.thread, row.title)


async def woke(tx: AsyncConnection, thread: str) -> None:
    """Write down that a thread is put away no more, by no name that we gave it."""
    await tx.execute(update(titles).where(titles.c.thread == thread).values(archived=False))


async def every(tx: AsyncConnection) -> dict[str, tuple[str, bool]]:
    """Name and whether it is put away, by the outbox key of each thread's opener."""
    return {row.thread: (row.title, row.archived) for row in await tx.execute(select(titles))}
