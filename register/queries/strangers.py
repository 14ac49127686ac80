"""People who are no operators and have written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from register.schema import strangers
from register.store import insert_once

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, kw_only=True, slots=True)
class Stranger:
    identity: str
    first_seen_at: float
    last_seen_at: float
    #: When they last got a line.
    told_at: float | None
    attempts: int
    #: The beginning of what they last tried.
    last_text: str | None

    @classmethod
    def from_row(cls, row: Row[Any]) -> Stranger:
        return cls(**{name: row._mapping[name] for name in cls.__dataclass_fields__})


async def get(tx: AsyncConnection, identity: str) -> Stranger | None:
    row = (await tx.execute(select(strangers).where(strangers.c.identity == identity))).one_or_none()
    return None if row is None else Stranger.from_row(row)


async def count(tx: AsyncConnection) -> int:
    return await tx.scalar(select(func.count()).select_from(strangers)) or 0


async def note(tx: AsyncConnection, identity: str, *, now: float, text: str, told: bool) -> None:
    """Count one more attempt of a stranger, and whether they got a line for it."""
    first = {"identity": identity, "first_seen_at": now, "last_seen_at": now, "told_at": now if told else None}
    if await insert_once(tx, strangers, **first, attempts=1, last_text=text):
        return
    values: dict[str, Any] = {"last_seen_at": now, "attempts": strangers.c.attempts + 1, "last_text": text}
    if told:
        values["told_at"] = now
    await tx.execute(update(strangers).where(strangers.c.identity == identity).values(**values))
