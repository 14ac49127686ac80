"""What agents used, as the egress metered it, and how far each host's ledger was copied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Any, Literal, TypeAlias

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.store import insert_into, upsert
from database.queries.record import Record
from database.queries.spending import hourly_rollup, quota_history, usage_queries
from database.queries.spending.hourly_sums_reader import TOKENS as TOKENS
from database.queries.spending.hourly_sums_reader import Sums
from database.schema import ledger, ledger_positions, quota

Key: TypeAlias = Literal["agent", "role", "task", "account", "provider", "sandbox", "model", "day"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied(Record):
    """How far a ledger was copied: the place of the last entry, observation and action; 0: none yet."""

    ledger: str
    entries: int = 0
    observations: int = 0
    actions: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupUsage:
    """What the requests of one group come to."""

    key: str | None
    """None: these requests have none, such as those that belong to no task."""
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

    @classmethod
    def of(cls, key: str | None, sums: Sums) -> GroupUsage:
        return cls(
            key=key,
            requests=sums.requests,
            input_tokens=sums.input_tokens,
            output_tokens=sums.output_tokens,
            cache_read_tokens=sums.cache_read_tokens,
            cache_write_tokens=sums.cache_write_tokens,
            reasoning_tokens=sums.reasoning_tokens,
            usd=None if sums.unpriced else sums.usd,
            estimated=sums.estimated,
        )

    @property
    def tokens(self) -> int:
        """All of them."""
        return sum(getattr(self, kind) for kind in TOKENS)


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotaRow(Record):
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


# --- copying -----------------------------------------------------------------------------------------------------


async def copied(tx: AsyncConnection, ledger_id: str) -> Copied:
    """Return how far a ledger was copied."""
    query = select(ledger_positions).where(ledger_positions.c.ledger == ledger_id)
    return await Copied.one(tx, query) or Copied(ledger=ledger_id)


async def move(tx: AsyncConnection, position: Copied, now: float) -> None:
    """Write how far a ledger was copied; in the transaction that writes what was copied."""
    await upsert(tx, ledger_positions, **position.columns(), read_at=now)


async def add(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write rows of a ledger, each with all columns but `day`, and add them to the sums of their hours.

    One that is there already stays as it is and is not counted again. Says how many were not.
    """
    if not rows:
        return 0
    written = [{**row, "day": hourly_rollup.day_of(row["ended_at"])} for row in rows]
    made = insert_into(tx, ledger).on_conflict_do_nothing().returning(ledger.c.id)
    found = await tx.execute(made, written)
    new, by_id = list(found.scalars()), {row["id"]: row for row in reversed(rows)}
    await hourly_rollup.count(tx, [by_id[each] for each in new])
    return len(new)


async def observe(tx: AsyncConnection, row: Mapping[str, Any], *, now: float = math.inf) -> bool:
    """Write what a provider said of a quota, unless something newer is known.

    What is far ahead of `now` was seen while the clock was set wrong, and is no newer.

    Returns:
        False when it is of a window more than are kept of an account: nothing of it was written.
    """
    same = (quota.c.account == row["account"]) & (quota.c.window == row["window"])
    seen = await tx.scalar(select(quota.c.seen_at).where(same))
    if seen is None:
        if not await _has_room(tx, row):
            return False
        await tx.execute(insert(quota), [dict(row)])
    elif seen <= row["seen_at"] or seen > now + quota_history.AHEAD_S:
        await tx.execute(update(quota).where(same).values(**row))
    return True


async def _has_room(tx: AsyncConnection, row: Mapping[str, Any]) -> bool:
    """Return whether one more window of the account is kept; those of which nothing was seen for long make room."""
    of = quota.c.account == row["account"]
    kept = select(func.count()).select_from(quota).where(of)
    if (await tx.scalar(kept) or 0) < quota_history.WINDOWS:
        return True
    await tx.execute(delete(quota).where(of, quota.c.seen_at < row["seen_at"] - quota_history.STALE_S))
    return (await tx.scalar(kept) or 0) < quota_history.WINDOWS


# --- looking -----------------------------------------------------------------------------------------------------


async def spent(
    tx: AsyncConnection, *, by: Key | None, since: float, until: float | None = None, zone: tzinfo = UTC
) -> list[GroupUsage]:
    """Return what was used by requests that ended within a time, group by group, the largest first (days: in order).

    Args:
        tx: to read from.
        by: what is grouped by; None: one group of all, if there is anything.
        since: seconds since the epoch.
        until: the same, and not with it; None: no end.
        zone: whose days those are.
    """
    if by == "day":
        return [
            GroupUsage.of(day, sums) for day, sums in (await usage_queries.days(tx, since, zone, until=until)).items()
        ]
    column = "profile" if by == "sandbox" else by
    found = await usage_queries.groups(tx, [] if column is None else [column], since, until)
    made = [GroupUsage.of("all" if by is None else key[0] or None, sums) for key, sums in found.items()]
    return sorted(made, key=lambda each: (-each.tokens, each.key or ""))


async def answered(
    tx: AsyncConnection, agent: str, *, since: float, until: float | None = None
) -> list[tuple[str, str, str | None]]:
    """Return by which providers, accounts and models requests of an agent were answered, as far as copied, sorted."""
    where = [ledger.c.agent == agent, ledger.c.ended_at >= since, ledger.c.output_tokens > 0]
    if until is not None:
        where.append(ledger.c.started_at <= until)
    query = select(ledger.c.provider, ledger.c.account, ledger.c.model).where(*where).distinct()
    found = [(provider, account, model) for provider, account, model in await tx.execute(query)]
    return sorted(found, key=lambda each: (each[0], each[1], each[2] or ""))


async def tokens_by_agent(tx: AsyncConnection, *, since: float) -> dict[str, int]:
    """Return all tokens of each agent's requests that ended at or after `since`."""
    return {agent: sums.tokens for (agent,), sums in (await usage_queries.groups(tx, ["agent"], since)).items()}


async def first_bytes(tx: AsyncConnection, *, since: float, limit: int = 1_000) -> list[float]:
    """Return how long the last requests that ended at or after `since` waited for their first byte, in seconds."""
    where = (ledger.c.ended_at >= since, ledger.c.first_byte_s.is_not(None))
    found = select(ledger.c.first_byte_s).where(*where).order_by(ledger.c.ended_at.desc()).limit(limit)
    return list(await tx.scalars(found))


async def quotas(tx: AsyncConnection) -> list[QuotaRow]:
    """Return what is known of all accounts' quotas, by account and window."""
    return await QuotaRow.every(tx, select(quota).order_by(quota.c.account, quota.c.window))


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete rows of the oldest day (UTC), a batch of them; return how many. Their sums stay.

    Only days that ended before `before` as a whole: of these no sums are recounted, whatever is left of them.
    """
    oldest = await tx.scalar(select(func.min(ledger.c.ended_at)))
    end = 0.0 if oldest is None else float((hourly_rollup.day_of(oldest) + 1) * hourly_rollup.DAY)
    if oldest is None or end > before:
        return 0
    return await delete_some(tx, ledger, ledger.c.ended_at < end)
