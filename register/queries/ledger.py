"""What agents used, as the egress metered it, and how far each host's ledger was copied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import ColumnElement, Integer, case, cast, delete, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from register.schema import ledger, ledger_positions, quota
from register.store import insert_once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

Key: TypeAlias = Literal["agent", "role", "task", "account", "model", "day"]

#: The columns in which tokens are counted; none is counted in two of them.
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_DAY = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied:
    """How far a ledger was copied: the place of the last entry, observation and action; 0: none yet."""

    ledger: str
    entries: int = 0
    observations: int = 0
    actions: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What the rows of one group come to."""

    key: str | None
    """None: these rows have none, such as requests that belong to no task."""
    requests: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    usd: float | None
    """None: of one of them at least, which used tokens, no price is known."""
    estimated: int
    """Of how many it is an estimate what they used. A failed request that cost nothing is none of them."""

    @property
    def tokens(self) -> int:
        """All of them."""
        return sum(getattr(self, kind) for kind in TOKENS)


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotaRow:
    """What a provider said last of a window of an account. What it did not say is None."""

    account: str
    window: str
    provider: str
    seen_at: float
    used: float | None
    amount: float | None
    remaining: float | None
    reset_at: float | None
    window_s: float | None
    status: str | None
    host: str = ""

    @classmethod
    def from_row(cls, row: Row[Any]) -> QuotaRow:
        return cls(**{name: row._mapping[name] for name in cls.__dataclass_fields__})


def day_of(at: float) -> int:
    """The day in UTC, counted from 1970-01-01."""
    return int(at // _DAY)


# --- copying -----------------------------------------------------------------------------------------------------


async def copied(tx: AsyncConnection, ledger_id: str) -> Copied:
    """How far a ledger was copied."""
    columns = [ledger_positions.c[name] for name in Copied.__dataclass_fields__]
    row = (await tx.execute(select(*columns).where(ledger_positions.c.ledger == ledger_id))).one_or_none()
    return Copied(ledger=ledger_id) if row is None else Copied(**row._mapping)


async def move(tx: AsyncConnection, position: Copied, now: float) -> None:
    """Write how far a ledger was copied; in the transaction that writes what was copied."""
    values = {name: getattr(position, name) for name in Copied.__dataclass_fields__} | {"read_at": now}
    if not await insert_once(tx, ledger_positions, **values):
        table = ledger_positions
        await tx.execute(update(table).where(table.c.ledger == position.ledger).values(**values))


async def add(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of a ledger, each with all columns but `day`; one that is there already stays as it is."""
    if not rows:
        return
    made = postgresql.insert(ledger) if tx.dialect.name == "postgresql" else sqlite.insert(ledger)
    written = [{**row, "day": day_of(row["ended_at"])} for row in rows]
    await tx.execute(made.on_conflict_do_nothing(), written)


async def observe(tx: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Write what a provider said of a quota, unless something newer is known."""
    same = (quota.c.account == row["account"]) & (quota.c.window == row["window"])
    seen = await tx.scalar(select(quota.c.seen_at).where(same))
    if seen is None:
        await tx.execute(insert(quota), [dict(row)])
    elif seen <= row["seen_at"]:
        await tx.execute(update(quota).where(same).values(**row))


# --- looking -----------------------------------------------------------------------------------------------------


async def spent(tx: AsyncConnection, *, by: Key | None, since: float) -> list[Spent]:
    """What was used by requests that ended at or after `since`, group by group, the largest first (days: in order).

    Args:
        tx: to read from.
        by: what is grouped by; None: one group of all, if there is anything.
        since: seconds since the epoch. It is looked for from the beginning of its day on.
    """
    key: ColumnElement[Any] = literal("all") if by is None else ledger.c[by]
    sums = [func.coalesce(func.sum(ledger.c[kind]), 0).label(kind) for kind in TOKENS]
    used = sum((ledger.c[kind] for kind in TOKENS), start=cast(literal(0), Integer))
    unpriced = func.sum(case((ledger.c.usd.is_(None) & (used > 0), 1), else_=0)).label("unpriced")
    estimated = func.sum(case((ledger.c.reported | (used == 0), 0), else_=1)).label("estimated")
    found = (
        select(key.label("key"), func.count().label("requests"), *sums, func.sum(ledger.c.usd), unpriced, estimated)
        .where(ledger.c.day >= day_of(since), ledger.c.ended_at >= since)
        .group_by(*([] if by is None else [key]))
    )
    made = [
        Spent(
            key=_shown(by, row[0]),
            requests=row[1],
            # PostgreSQL sums up in numerics.
            input_tokens=int(row[2]),
            output_tokens=int(row[3]),
            cache_read_tokens=int(row[4]),
            cache_write_tokens=int(row[5]),
            reasoning_tokens=int(row[6]),
            usd=None if row[8] else float(row[7] or 0.0),
            estimated=int(row[9]),
        )
        for row in await tx.execute(found)
        if row[1]
    ]
    if by == "day":
        return sorted(made, key=lambda each: each.key or "")
    return sorted(made, key=lambda each: (-each.tokens, each.key or ""))


def _shown(by: Key | None, key: Any) -> str | None:
    if by == "day" and key is not None:
        from datetime import UTC, datetime

        return f"{datetime.fromtimestamp(int(key) * _DAY, UTC):%Y-%m-%d}"
    return None if key in (None, "") else str(key)


async def tokens_by_agent(tx: AsyncConnection, *, since: float) -> dict[str, int]:
    """All tokens of each agent's requests that ended at or after `since`."""
    total = sum((ledger.c[kind] for kind in TOKENS), start=cast(literal(0), Integer))
    found = (
        select(ledger.c.agent, func.sum(total))
        .where(ledger.c.day >= day_of(since), ledger.c.ended_at >= since)
        .group_by(ledger.c.agent)
    )
    return {row[0]: int(row[1]) for row in await tx.execute(found)}


async def quotas(tx: AsyncConnection) -> list[QuotaRow]:
    """What is known of all accounts' quotas, by account and window."""
    rows = await tx.execute(select(quota).order_by(quota.c.account, quota.c.window))
    return [QuotaRow.from_row(row) for row in rows]


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete what ended before `before`; says how many rows went."""
    return (await tx.execute(delete(ledger).where(ledger.c.ended_at < before))).rowcount
