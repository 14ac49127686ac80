"""Rows for tests of the ledger, and looks into its file."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from egress.ledger import reservation_log
from egress.ledger.service import UsageLedger
from egress.ledger.table_rows import Reservation, Settlement


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def opened(
    path: Path, clock: Clock | None = None, *, long: int = reservation_log.LONG
) -> AsyncIterator[UsageLedger]:
    ledger = await UsageLedger.open(path, long=long, clock=time.time if clock is None else clock)
    try:
        yield ledger
    finally:
        await ledger.close()


def reservation(
    ledger: UsageLedger, *, agent: str = "coder0", at: float = 1_800_000_000.0, **changes: Any
) -> Reservation:
    number, id_ = ledger.next_number()
    made = Reservation(
        number=number,
        id=id_,
        tenant_id="default",
        host="attic",
        agent=agent,
        launch_id=f"{agent}-1",
        role="coder",
        profile="strict",
        profiles="strict,base",
        session="s1",
        turn="t1",
        task=None,
        account="main",
        provider="anthropic",
        api="anthropic",
        model_asked="claude-sonnet-4-5",
        attempt=1,
        started_at=at,
        input=100,
        output=20,
        cache_read=0,
        cache_write=0,
        reasoning=0,
        nano_usd=600_000,
    )
    return made._replace(**changes)


def settlement(made: Reservation, *, output: int = 7, **changes: Any) -> Settlement:
    settled = Settlement(
        reservation=made,
        model="claude-sonnet-4-5-20250929",
        input=90,
        output=output,
        cache_read=5,
        cache_write=3,
        reasoning=2,
        reported=True,
        raw='{"input_tokens":90}',
        status=200,
        ended="completed",
        detail=None,
        ended_at=made.started_at + 1.5,
        first_byte_s=0.25,
        total_s=1.5,
        nano_usd=123_456_789,
    )
    return settled._replace(**changes)


async def entered(ledger: UsageLedger, **changes: Any) -> int:
    """Reserve and settle one request; its seq."""
    made = reservation(ledger, **changes)
    ledger.reserve(made)
    return await ledger.settle(settlement(made))


def look(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask the file itself, beside whoever has it open."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def under_way(path: Path) -> list[str]:
    """The ids of what was admitted and has no entry, as an egress that starts now would find it."""
    ((ledger,),) = look(path, "SELECT value FROM meta WHERE key = 'ledger'")
    after, reservations, _ = reservation_log.pending(path, ledger)
    ended = {id_ for (id_,) in look(path, f"SELECT id FROM entries WHERE seq > {after}")}
    return [each.id for each in reservations if each.id not in ended]
