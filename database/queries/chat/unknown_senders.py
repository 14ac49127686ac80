"""People who are no operators and have written: one row each. How many rows there may be is for the caller to bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import strangers


@dataclass(frozen=True, kw_only=True, slots=True)
class UnknownSender(Record):
    """Someone who is no operator."""

    identity: str
    first_seen_at: float
    last_seen_at: float
    #: When they were last told that Muster does not talk to them.
    told_at: float | None
    #: How often they have written.
    attempts: int
    #: What they last wrote, as far as it is kept.
    last_text: str | None


async def get(tx: AsyncConnection, identity: str) -> UnknownSender | None:
    """Return what is known of one stranger."""
    return await UnknownSender.one(tx, select(strangers).where(strangers.c.identity == identity))


async def count(tx: AsyncConnection) -> int:
    """Return how many strangers are known."""
    return await tx.scalar(select(func.count()).select_from(strangers)) or 0


async def note(tx: AsyncConnection, identity: str, *, now: float, text: str, told: bool) -> None:
    """They wrote `text`, and were told (or not) that Muster does not talk to them."""
    await insert_once(tx, strangers, identity=identity, first_seen_at=now, last_seen_at=now, attempts=0)
    values: dict[str, Any] = {"last_seen_at": now, "last_text": text, "attempts": strangers.c.attempts + 1}
    if told:
        values["told_at"] = now
    await tx.execute(update(strangers).where(strangers.c.identity == identity).values(**values))
