"""Posting what is due, once: looked at every minute, by our own clock.

That a report was posted is written in the transaction that puts its messages into the outbox. Killed at any point, the
next sweep posts what is missing, and nothing twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from bot.reports import schedule
from register.crashpoints import declare
from register.queries import reports, restores, schedules
from register.queries.reports import ReportRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.reports.schedule import Due, Schedule
    from bot.saying import Speaker
    from bot.services import Services

log = structlog.get_logger(__name__)

POST = declare("report.post")
REMEMBER = declare("report.remember")

#: The kind of the rows that say since when a schedule holds.
_SINCE = "schedule"


@dataclass(kw_only=True, slots=True)
class Reports:
    """Posts reports; what a command shows of them comes from here, too."""

    services: Services
    speaker: Speaker
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _swept_at: float | None = None
    """When it was last looked, by this process."""

    async def sweep(self, now: float | None = None) -> None:
        """Post what is due.

        Args:
            now: seconds since the epoch; None: as the clock says.

        Raises:
            RegisterError: the register cannot be used; the next sweep does it.
        """
        async with self._turn:
            await self._sweep(self.services.clock() if now is None else now)

    async def schedules(self) -> list[Schedule]:
        """When each kind is posted.

        Raises:
            RegisterError: the register cannot be read.
        """
        async with self.services.store.read() as tx:
            rows = await schedules.every(tx)
        settings = self.services.settings
        return schedule.in_force(settings.schedules, rows, settings.timezone)

    async def _sweep(self, now: float) -> None:
        planned = await self.schedules()
        since = await self._since(planned, now)
        for each in planned:
            async with self.services.store.read() as tx:
                posted = await reports.of_kind(tx, each.kind, limit=100)
            due = schedule.due(
                each,
                since=since,
                posted={row.due_at for row in posted},
                quiet=self.services.settings.schedules.quiet,
                zone=self.services.settings.timezone,
                now=now,
            )
            if due is not None:
                await self._post(due, now)
        self._swept_at = now

    async def _since(self, planned: Sequence[Schedule], now: float) -> float:
        del planned
        async with self.services.store.read() as tx:
            return await restores.last(tx) or min(now, self.services.started_at)

    async def _post(self, due: Due, now: float) -> None:
        async with self.services.store.write(POST) as tx:
            await reports.add(tx, ReportRow(key=due.key, kind=due.kind, due_at=due.at, posted_at=now))
