"""Alerts about failing jobs and their recovery. `scheduler.job_alert_policy` decides when to send one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import MessagePlace
from bot.text import markdown
from core.crash_points import declare
from core.errors import RegisterError
from database.engine.store import Store
from database.queries.operations import watchdog_findings
from database.queries.operations.watchdog_findings import FindingRow
from scheduler.job_alert_policy import Piece, judged
from scheduler.jobs import JobRecord

log = structlog.get_logger(__name__)

TELL = declare("job.tell")


class FleetRoomFinder(Protocol):
    """A callback that returns the room for fleet-wide messages (bot.monitoring.alerts.AlertPoster.fleet_room)."""

    async def __call__(self, tx: AsyncConnection) -> MessagePlace | None: ...


@dataclass(slots=True, kw_only=True)
class JobAlertPoster:
    """The alerts about jobs, judged after each run."""

    store: Store
    channel: AgentChannel
    room: FleetRoomFinder
    wake_delivery: Callable[[], None]
    _ended: dict[str, JobRecord] = field(default_factory=dict)
    _dropped: set[str] = field(default_factory=set)
    _failed_at: dict[str, float] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def ended(self, record: JobRecord) -> None:
        """Note that a run ended (scheduler.jobs.Jobs.on_ended)."""
        self._ended[record.name] = record
        self._news.set()

    def dropped(self, name: str) -> None:
        """Note that a job was removed, so its failure no longer matters (scheduler.jobs.Jobs.on_dropped)."""
        self._ended.pop(name, None)
        self._dropped.add(name)
        self._news.set()

    async def run(self) -> None:
        """Send alerts until cancelled. An alert that cannot be sent now is retried after a later run of the job."""
        standing: dict[str, FindingRow] | None = None
        while True:
            await self._news.wait()
            self._news.clear()
            ended, self._ended = self._ended, {}
            try:
                if standing is None:
                    async with self.store.read() as tx:
                        standing = {row.key: row for row in await watchdog_findings.of_jobs(tx)}
                await self._forget(standing)
                for record in ended.values():
                    await self._judge(record, standing)
            except RegisterError as error:
                log.info("job.not_told", reason=str(error))
            except Exception:
                # A full disk, for example, may have failed both the job and the alert. The alerts must survive it.
                log.exception("job.not_told")

    async def _forget(self, standing: dict[str, FindingRow]) -> None:
        """Delete the findings of removed jobs. A job that is switched on again starts without a history."""
        dropped = set(self._dropped)
        if keys := [f"job/{name}" for name in dropped if f"job/{name}" in standing]:
            async with self.store.write(TELL) as tx:
                await watchdog_findings.forget(tx, keys)
            for key in keys:
                del standing[key]
        for name in dropped:
            self._failed_at.pop(name, None)
        self._dropped -= dropped

    async def _judge(self, record: JobRecord, standing: dict[str, FindingRow]) -> None:
        now, key = self.channel.clock(), f"job/{record.name}"
        before = standing.get(key)
        verdict = judged(record, before, failed_at=self._failed_at.get(record.name), now=now)
        if record.last_error is not None and not record.away:
            self._failed_at[record.name] = now
        if verdict.row == before and verdict.piece is None:
            return
        async with self.store.write(TELL) as tx:
            if verdict.piece is not None and not await self._say(tx, verdict.piece, record, before):
                return
            await watchdog_findings.forget(tx, [key])
            if verdict.row is not None:
                await watchdog_findings.put(tx, [verdict.row])
        if verdict.row is None:
            standing.pop(key, None)
        else:
            standing[key] = verdict.row
        if verdict.piece is not None:
            log.info("job.told", job=record.name, news=verdict.piece.news)
            self.wake_delivery()

    async def _say(self, tx: AsyncConnection, piece: Piece, record: JobRecord, before: FindingRow | None) -> bool:
        """Put the alert into the outbox. Return False if there is no room to send it to."""
        place = await self.room(tx)
        if place is None:
            return False
        # Redact before the error is cut: redaction would not recognize half a secret.
        error = None if record.last_error is None else self.channel.redaction(record.last_error)
        said = text(piece, replace(record, last_error=error), before, self.channel.clock())
        await self.channel.speak(tx, piece.key, said, place)
        return True


def text(piece: Piece, record: JobRecord, before: FindingRow | None, now: float) -> str:
    """Return the alert as Markdown with command lines (`bot.commands.syntax`)."""
    name = f"**{markdown.one_line(record.name)}**"
    health = command_line("health")
    lasted = "" if before is None else markdown.span(max(0.0, now - before.found_at))
    if piece.news == "well":
        return f"✔ The job {name} succeeds again. It first failed {lasted} ago."
    cause = markdown.code(markdown.one_line(record.last_error or "", 300))
    again = "" if piece.silent_for is None else f" This alert is repeated after {markdown.span(piece.silent_for)}."
    if piece.news == "still":
        return f"🟠 The job {name} still fails, for {lasted} now: {cause}. {health} shows all of them.{again}"
    return (
        f"🟠 The job {name} ({record.schedule}) failed: {cause}. It is tried again at its times; {health} shows its "
        f"state.{again}"
    )
