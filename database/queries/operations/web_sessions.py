"""Browsers that are, were or want to be logged in to the dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import web_sessions as table


@dataclass(frozen=True, kw_only=True, slots=True)
class WebSessionRow(Record):
    id: str
    #: asked (it shows a code), confirmed (a person confirmed it, and the browser has not come for it), open or ended
    state: str
    code_hash: str
    #: of the browser's cookie; an open session has another cookie than before
    token_hash: str
    address: str
    browser: str
    #: the person who confirmed it; null before
    identity: str | None
    #: whether it may change anything
    control: bool
    asked_at: float
    opened_at: float | None
    #: when a person last used it, to the minute
    seen_at: float
    #: of the code, then of the session
    expires_at: float
    ended_at: float | None
    ended_by: str | None
    #: comments on lines that were not sent; null: none
    comments: Sequence[Mapping[str, str | float]] | None = None
    #: ``endpoint``, ``p256dh`` and ``auth`` of its push service, and ``at``: when it was told; null: no pushes
    push: Mapping[str, str | float] | None = None


async def add(tx: AsyncConnection, row: WebSessionRow) -> bool:
    """Add a browser; False if there is one of this id or with this cookie."""
    return await insert_once(tx, table, **row.columns())


async def get(tx: AsyncConnection, session_id: str) -> WebSessionRow | None:
    return await WebSessionRow.one(tx, select(table).where(table.c.id == session_id))


async def held(tx: AsyncConnection, session_id: str) -> WebSessionRow | None:
    """Return a row that nobody else changes until the transaction ends."""
    return await WebSessionRow.one(tx, select(table).where(table.c.id == session_id).with_for_update())


async def by_token(tx: AsyncConnection, token_hash: str) -> WebSessionRow | None:
    return await WebSessionRow.one(tx, select(table).where(table.c.token_hash == token_hash))


async def by_code(tx: AsyncConnection, code_hash: str, now: float) -> WebSessionRow | None:
    """Return the browser that shows this code now, or None."""
    asked = table.c.state == "asked", table.c.code_hash == code_hash, table.c.expires_at > now
    found = await WebSessionRow.every(tx, select(table).where(*asked).limit(2))
    return found[0] if len(found) == 1 else None


async def asking(tx: AsyncConnection, now: float) -> int:
    """Return how many browsers show a code now."""
    asked = table.c.state == "asked", table.c.expires_at > now
    return await tx.scalar(select(func.count()).select_from(table).where(*asked)) or 0


async def opened(
    tx: AsyncConnection, now: float, *, seen_after: float, identity: str | None = None
) -> list[WebSessionRow]:
    """Return the sessions that have not ended, the newest first; of one person if `identity` is given."""
    where = [table.c.state.in_(("confirmed", "open")), table.c.expires_at > now, table.c.seen_at > seen_after]
    if identity is not None:
        where.append(table.c.identity == identity)
    return await WebSessionRow.every(tx, select(table).where(*where).order_by(table.c.asked_at.desc(), table.c.id))


async def pushed(tx: AsyncConnection, now: float, *, seen_after: float) -> list[WebSessionRow]:
    """Return the open sessions that want pushes."""
    where = table.c.state == "open", table.c.expires_at > now, table.c.seen_at > seen_after, table.c.push.is_not(None)
    return await WebSessionRow.every(tx, select(table).where(*where).order_by(table.c.id))


async def change(tx: AsyncConnection, session_id: str, *, only: tuple[str, ...], **values: object) -> bool:
    """Set columns of a row in one of the states `only`; False if it is in none of them."""
    where = table.c.id == session_id, table.c.state.in_(only)
    return (await tx.execute(update(table).where(*where).values(**values))).rowcount > 0


async def drop_expired_codes(tx: AsyncConnection, now: float) -> None:
    """Delete the codes that nobody confirmed in time."""
    await tx.execute(delete(table).where(table.c.state.in_(("asked", "confirmed")), table.c.expires_at <= now))


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete some of the rows that ended before `before`; return how many."""
    over = func.coalesce(table.c.ended_at, table.c.expires_at) < before
    return await delete_some(tx, table, over)
