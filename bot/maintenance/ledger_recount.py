"""The ledger's sums, recounted from its rows: some days each hour, and in time all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from bot.maintenance.retention_job import KEEP_ROWS
from core.crash_points import declare
from database.queries.spending import hourly_rollup

if TYPE_CHECKING:
    from collections.abc import Callable

    from database.engine.store import Store

log = structlog.get_logger(__name__)

RECOUNT = declare("spending.recount")

#: So many days are counted at one time: all that are kept within a day or so.
DAYS = 20


@dataclass(slots=True)
class Recount:
    """Goes from the newest day to the oldest of which rows are kept, and begins again."""

    store: Store
    clock: Callable[[], float]
    put_right: Callable[[], None] = lambda: None
    """Called once sums that were wrong are right."""
    _before: int | None = None

    async def next(self) -> None:
        """Count the next days. What is wrong is put right, and told in the log."""
        for _ in range(DAYS):
            async with self.store.read() as tx:
                day = await hourly_rollup.day_before(tx, self._before)
                if day is not None and day <= hourly_rollup.day_of(self.clock() - KEEP_ROWS):
                    # A row that came when the others of its day were forgotten, or that a clock without a battery made.
                    day = None
                self._before = day
                wrong = [] if day is None else await hourly_rollup.differences(tx, day)
            if day is None:
                return
            if wrong:
                await self._put_right(day)

    async def _put_right(self, day: int) -> None:
        async with self.store.write(RECOUNT) as tx:
            # Rows may have come since it was looked at.
            wrong = await hourly_rollup.recount(tx, day)
        self.put_right()
        if wrong:
            first = wrong[0]
            log.error("spending.wrong", day=day, sums=len(wrong), key=first.key, kept=first.kept, counted=first.counted)
