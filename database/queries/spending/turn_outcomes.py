"""What turns of agents came to, by the newest requests of the ledger."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.queries.spending.hourly_sums_reader import NOTHING, TOKENS, Sums
from database.schema import ledger

#: So many of the newest requests are read.
REQUESTS = 1000


async def recent(tx: AsyncConnection, *, requests: int = REQUESTS) -> list[Sums]:
    """Return what each of the turns came to that the newest requests belong to; one that may be cut is not among
    them."""
    kinds = [getattr(ledger.c, kind) for kind in TOKENS]
    query = select(ledger.c.agent, ledger.c.turn, ledger.c.usd, *kinds)
    rows = list(await tx.execute(query.order_by(ledger.c.ended_at.desc()).limit(requests)))
    found: dict[tuple[str, str], Sums] = {}
    for agent, turn, usd, *counts in rows:
        if turn is None:
            continue
        unpriced = usd is None and any(counts)
        one = Sums(requests=1, usd=usd or 0.0, unpriced=int(unpriced), **dict(zip(TOKENS, counts, strict=True)))
        found[agent, turn] = found.get((agent, turn), NOTHING) + one
    if len(rows) == requests and rows[-1].turn is not None:
        found.pop((rows[-1].agent, rows[-1].turn), None)
    return list(found.values())
