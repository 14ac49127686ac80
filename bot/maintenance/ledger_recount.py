"""Recount of the ledger's sums from its rows: some days each hour, and eventually all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from bot.maintenance.retention_job import KEEP_ROWS
from core.crash_points import declare
from database.engine.store import Store
from database.queries.spending import hourly_rollup

log = structlog.get_logger(__name__)

RECOUNT = declare("spending.recount")

#: Days to recount per call. At one call an hour, all kept days are recounted within about a day.
DAYS = 20


@dataclass(slots=True)
class Recount:
    """A recount that walks from the newest day to the oldest day with rows, then starts over."""

    store: Store
    clock: Callable[[], float]
    put_right: Callable[[], None] = lambda: None
    """Called after wrong sums are corrected."""
    _before: int | None = None

    async def next(self) -> None:
        """Recount the next days, correct wrong sums, and log the correction."""
        for _ in range(DAYS):
            async with self.store.read() as tx:
                day = await hourly_rollup.day_before(tx, self._before)
                if day is not None and day <= hourly_rollup.day_of(self.clock() - KEEP_ROWS):
                    # A late row, or a row with a wrong clock, can be older than the rows that are kept.
                    day = None
                self._before = day
                wrong = [] if day is None else await hourly_rollup.differences(tx, day)
            if day is None:
                return
            if wrong:
                await self._put_right(day)

    async def _put_right(self, day: int) -> None:
        async with self.store.write(RECOUNT) as tx:
            # Rows may have arrived since the check.
            wrong = await hourly_rollup.recount(tx, day)
        self.put_right()
        if wrong:
            first = wrong[0]
            log.error("spending.wrong", day=day, sums=len(wrong), key=first.key, kept=first.kept, counted=first.counted)
