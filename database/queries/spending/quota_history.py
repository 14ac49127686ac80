"""What providers said of quotas over time, and how much had gone through here when they said it.

The egress keeps the newest observation of each window, and the copier asks as soon as there is one: what is missing
lies between two that came within the same moment, or while no one copied. Neither matters: how fast a window is used up
is learned between any two observations of it, and a reset shows in the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.queries.spending import usage_queries
from database.queries.spending.hourly_sums_reader import Sums
from database.schema import quota_history as table

#: A use that moved by less is the same: some providers tell it with every response, to many places.
STEP = 0.005
#: So are resets: of some it is told how far away they are, in whole seconds.
JITTER_S = 60.0
#: What is the same is written again after so long a time: until then the one before stands for it.
EVERY_S = 300.0
#: Shorter windows are limits on the rate of requests, which the egress waits for: no pace is kept of them.
SHORTEST_S = 3_600.0
#: Clocks differ by less.
AHEAD_S = 600.0
#: So many rows of a window are kept, and so many windows of an account, whatever a provider says and how often.
MOST, WINDOWS = 20_000, 32
#: A window of which nothing was seen for so long keeps no other from being known, seconds.
STALE_S = 14 * 86_400.0


async def record(
    tx: AsyncConnection, seen: Mapping[str, Any], weigh: Callable[[Sums], float], *, now: float = math.inf
) -> bool:
    """Write what was observed, if it says something that is not known. Says whether it does.

    Everything that ended before it was seen must be in the ledger: what was used between two observations is reckoned
    when the second is written. Of a second host, what is copied later than that is not counted between them.

    Args:
        tx: the transaction.
        seen: a row of `quota`.
        weigh: what sums count, in weighted tokens.
        now: what was seen far ahead of this was seen while the clock was set wrong, and is no newer than this is.
    """
    of = (table.c.account == seen["account"], table.c.window == seen["window"])
    query = (
        select(table)
        .where(*of, table.c.seen_at <= now + AHEAD_S)
        .order_by(table.c.seen_at.desc(), table.c.seq.desc())
        .limit(1)
    )
    last = (await tx.execute(query)).mappings().one_or_none()
    if not (_paced(seen) if last is None else _is_news(dict(last), seen)):
        return False
    if last is None:
        lately = (table.c.account == seen["account"], table.c.seen_at > seen["seen_at"] - STALE_S)
        names = select(func.count(table.c.window.distinct())).where(*lately)
        if (await tx.scalar(names) or 0) >= WINDOWS:
            return False
    tokens = 0.0
    if last is not None:
        used = await usage_queries.used(tx, f"account:{seen['account']}", last["seen_at"], seen["seen_at"])
        tokens = last["tokens"] + weigh(used)
    said = {name: seen[name] for name in ("account", "window", "seen_at", "used", "reset_at", "window_s", "status")}
    await tx.execute(insert(table).values(**said, tokens=tokens))
    return True


def _paced(seen: Mapping[str, Any]) -> bool:
    """Return whether it is a window at all for which a pace is kept: a quota, and not how many requests go in a
    minute."""
    length, reset = seen["window_s"], seen["reset_at"]
    if length is not None:
        return bool(length >= SHORTEST_S)
    # Rates are told as numbers of requests or tokens, quotas as shares.
    return seen["amount"] is None or (reset is not None and reset - seen["seen_at"] >= SHORTEST_S)


def _is_news(last: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    if seen["seen_at"] <= last["seen_at"]:
        return False
    return (
        seen["seen_at"] - last["seen_at"] >= EVERY_S
        or seen["status"] != last["status"]
        or _moved(last["window_s"], seen["window_s"], JITTER_S)
        or _moved(last["reset_at"], seen["reset_at"], JITTER_S)
        or _moved(last["used"], seen["used"], STEP)
    )


def _moved(before: float | None, now: float | None, by: float) -> bool:
    if before is None or now is None:
        return before is not now
    return abs(now - before) >= by


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete what was seen before `before`, and of each window all but the newest `MOST`, a batch; return how many."""
    gone = await delete_some(tx, table, table.c.seen_at < before)
    full = select(table.c.account, table.c.window).group_by(table.c.account, table.c.window).having(func.count() > MOST)
    for account, window in (await tx.execute(full)).all():
        of = (table.c.account == account, table.c.window == window)
        newest = select(table.c.seq).where(*of).order_by(table.c.seen_at.desc(), table.c.seq.desc())
        oldest_kept = await tx.scalar(newest.offset(MOST - 1).limit(1))
        at = select(table.c.seen_at).where(table.c.seq == oldest_kept).scalar_subquery()
        gone += await delete_some(tx, table, *of, table.c.seen_at < at)
    return gone
