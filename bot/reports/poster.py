"""Posts reports when they are due, exactly once. A job checks every minute, by Muster's own clock.

The transaction that puts a report's messages into the outbox also records the report. So after a crash, the next sweep
posts what is missing, and nothing twice. Pictures are drawn before the transaction. If drawing fails, the report is
posted without a picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.services import AgentServices
from bot.commands.syntax import written
from bot.config.reports import KINDS, Kind
from bot.figures.model import Figure
from bot.messaging import private_files, rooms
from bot.messaging.composer import Composer, MessagePlace
from bot.pacing import window_series
from bot.read_models.limits import WindowPace
from bot.reports import loader, schedule, threshold_alerts
from bot.reports import text as wording
from bot.reports.chart import figure_of
from bot.reports.model import ReportFacts
from bot.reports.schedule import Due, Schedule
from bot.reports.text import Why
from bot.text import markdown
from connectors.contract.messages import File, Priority
from connectors.delivery import outbox
from core.crash_points import declare
from core.errors import MusterError
from database.queries.operations import posted_reports, restored_backup, watchdog_findings
from database.queries.operations import report_schedules as schedules
from database.queries.operations.posted_reports import ReportRow
from scheduler.jobs import Job

log = structlog.get_logger(__name__)

POST = declare("report.post")
REMEMBER = declare("report.remember")

#: Kind of the rows that record since when a schedule applies.
_SINCE: Final = "schedule"
#: Maximum number of posted reports of a kind to load.
_POSTED: Final = 400
#: Maximum number of records of agents that were down to load, and maximum characters of a stored cause.
_DOWNS: Final = 1000
_CAUSE: Final = 160
#: Seconds for which posted reports and agents that were down are remembered.
KEEP: Final = 420 * 86_400.0
#: Minimum seconds between two checks of changing windows.
_PAUSE: Final = 10.0


class ChartRenderer(Protocol):
    """Draws figures (`bot.reports.chart_subprocess.ChartSubprocess`)."""

    async def picture(self, figure: Figure) -> bytes | None: ...

    async def letters(self, figure: Figure) -> str | None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A report that is ready to be posted."""

    facts: ReportFacts
    text: str
    """Markdown, including the chart if the connector shows it as text."""
    picture: Path | None = None
    """A PNG, if the connector takes files."""


@dataclass(kw_only=True, slots=True)
class Reports:
    """Poster of reports, also for the command that shows one."""

    services: AgentServices
    speaker: Composer
    painter: ChartRenderer
    folder: Path
    """Folder of pictures that wait to be sent."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _swept_at: float | None = None
    """Time of the last check in this process."""
    _arranged: dict[str, str] = field(default_factory=dict)
    """Jobs at the times of schedules, with the fingerprints of these."""
    _roomless: bool = False
    """Whether a missing chat room has been logged."""

    # --- when ---------------------------------------------------------------------------------------------------

    async def schedules(self) -> list[Schedule]:
        """Return when each kind is posted.

        Raises:
            RegisterError: the register cannot be read.
        """
        async with self.services.store.read() as tx:
            rows = await schedules.every(tx)
        settings = self.services.settings
        return schedule.in_force(settings.schedules, rows, settings.timezone)

    async def sweep(self, now: float | None = None) -> None:
        """Post the reports that are due.

        Args:
            now: seconds since the epoch; None: the clock's time.

        Raises:
            Exception: a report could not be posted; the next sweep retries it.
        """
        async with self._turn:
            at = self.services.clock() if now is None else now
            planned = await self.schedules()
            self._arrange(planned)
            await self._remember_downs(at)
            since = await self._since(planned, at)
            failures: list[Exception] = []
            for each in planned:
                try:
                    if each.kind == "budget":
                        await self._cross(each, at)
                    elif (due := await self._due(each, since.get(each.kind, at), at)) is not None:
                        await self._post(due, at)
                except Exception as error:
                    # A failure of one kind must not prevent the others.
                    log.warning("report.not_posted", kind=each.kind, reason=repr(error))
                    failures.append(error)
            self._swept_at = at
            if failures:
                raise failures[0]
            # Each of these jobs does the same, some only once a week.
            for name in self._arranged:
                self.services.jobs.mended(name)

    async def arrange(self) -> None:
        """Schedule the jobs at the current times.

        Raises:
            RegisterError: the register cannot be read.
        """
        self._arrange(await self.schedules())

    def _arrange(self, planned: Sequence[Schedule]) -> None:
        jobs = self.services.jobs
        wanted = {f"report {each.kind}": each for each in planned if each.on and each.cron is not None}
        for name in {f"report {kind}" for kind in KINDS} - wanted.keys():
            jobs.drop(name)
        for name, each in wanted.items():
            if each.cron is not None and self._arranged.get(name) != each.fingerprint:
                jobs.put(Job(name, each.cron, self.sweep))
        self._arranged = {name: each.fingerprint for name, each in wanted.items()}

    async def run(self) -> None:
        """Check the windows whenever they change, until canceled, so that a passed share is reported at once."""
        changed = asyncio.Event()
        self.services.pace.on_change(changed.set)
        with contextlib.suppress(MusterError):
            await self.arrange()
        while True:
            await changed.wait()
            changed.clear()
            # The next sweep retries it after any error.
            try:
                async with self._turn:
                    budget = next(each for each in await self.schedules() if each.kind == "budget")
                    await self._cross(budget, self.services.clock())
            except MusterError as error:
                log.info("report.not_looked", reason=str(error))
            except Exception:
                log.exception("report.not_looked")
            await asyncio.sleep(_PAUSE)

    async def _due(self, planned: Schedule, since: float, now: float) -> Due | None:
        settings = self.services.settings
        async with self.services.store.read() as tx:
            posted = await posted_reports.of_kind(tx, planned.kind, limit=_POSTED)
        return schedule.due(
            planned,
            since=since,
            posted={row.due_at for row in posted},
            quiet=settings.schedules.quiet,
            zone=settings.timezone,
            now=now,
        )

    async def _since(self, planned: Sequence[Schedule], now: float) -> dict[str, float]:
        """Return since when each schedule applies: since it was set, and since a backup was restored."""
        async with self.services.store.read() as tx:
            known = {row.key: row for row in await posted_reports.of_kind(tx, _SINCE)}
            restored = await restored_backup.last(tx) or 0.0
        wanted = {
            each.kind: f"{_SINCE}/{each.kind}/{each.fingerprint}"
            for each in planned
            if each.on and each.cron is not None
        }
        # A schedule set by command applies from that time. muster.yaml may have changed any time since the last sweep.
        first = min(now, self.services.started_at if self._swept_at is None else self._swept_at)
        given = {each.kind: each.set_at for each in planned}
        rows = {
            kind: ReportRow(key=key, kind=_SINCE, due_at=min(now, given[kind] or first), posted_at=now)
            for kind, key in wanted.items()
            # A wrong clock wrote a time in the future.
            if key not in known or known[key].due_at > now
        }
        gone = known.keys() - set(wanted.values())
        if rows or gone:
            async with self.services.store.write(REMEMBER) as tx:
                await posted_reports.remove(tx, gone)
                for row in rows.values():
                    await posted_reports.replace(tx, row)
        held = {kind: rows[kind].due_at if kind in rows else known[key].due_at for kind, key in wanted.items()}
        return {kind: max(at, restored if restored <= now else 0.0) for kind, at in held.items()}

    async def _remember_downs(self, now: float) -> None:
        """Record which agents are down while it lasts, because findings are deleted when they end."""
        async with self.services.store.read() as tx:
            standing = [row for row in await watchdog_findings.every(tx) if row.kind in loader.MISSING and row.agent]
        if not standing:
            return
        async with self.services.store.write(REMEMBER) as tx:
            known = {_named(row.key): row.key for row in await posted_reports.of_kind(tx, loader.DOWN, limit=_DOWNS)}
            for row in standing:
                name = f"{loader.DOWN}/{row.kind}/{row.agent}/{row.found_at:.0f}"
                # Keep the first text of the cause, because later ones count the minutes.
                cause = markdown.gist(row.cause, self.services.redact, _CAUSE)
                key = known.get(name, f"{name}/{cause}")
                down = ReportRow(key=key, kind=loader.DOWN, due_at=min(row.found_at, now), posted_at=now)
                await posted_reports.replace(tx, down)

    # --- what ---------------------------------------------------------------------------------------------------

    async def make(
        self,
        kind: Kind,
        *,
        now: float,
        connector: str | None,
        key: str,
        due: Due | None = None,
        note: str | None = None,
    ) -> Made:
        """Return a report in a form that the connector can show.

        Args:
            kind: the kind of the report.
            now: seconds since the epoch.
            connector: the connector that shows it; None: a shell.
            key: the name of the picture's file.
            due: when it was due; None: it was requested.
            note: why it is late.

        Raises:
            RegisterError: the register cannot be read.
        """
        zone = self.services.settings.timezone
        at, last = (now, None) if due is None else (due.at, due.last)
        begin, end = loader.span_of(kind, at, zone, last)
        facts = await loader.gather(self.services, kind, now=now, begin=begin, end=end)
        text = wording.report(facts, note=note)
        letters, picture = await self._drawn(facts.windows, now, connector, key)
        return Made(facts=facts, text=f"{text}\n\n{letters}" if letters else text, picture=picture)

    async def _drawn(
        self, shown: Sequence[WindowPace], now: float, connector: str | None, key: str
    ) -> tuple[str | None, Path | None]:
        """Return the chart as a fenced block or as a file, or neither if there is none or drawing fails."""
        settings = self.services.settings
        try:
            figure = figure_of(shown, settings.timezone, now, redact=self.services.redact)
        except Exception:
            # A fault of ours must cost only the picture.
            log.exception("report.not_drawn")
            return None, None
        if figure is None:
            return None, None
        can = None if connector is None else self.services.capabilities(connector)
        if can is None or not (can.files and can.pictures):
            letters = await self.painter.letters(figure)
            return (None if letters is None else markdown.code_block(letters)), None
        made = await self.painter.picture(figure)
        if made is None:
            return None, None
        path = self.folder / f"{key.replace('/', '_')}.png"
        try:
            await asyncio.to_thread(private_files.put, path, made)
        except OSError as error:
            log.warning("report.not_drawn", reason=f"{path.name} cannot be written: {error.strerror}")
            return None, None
        return None, path

    # --- posting ------------------------------------------------------------------------------------------------

    async def _post(self, due: Due, now: float) -> None:
        place = await self._place()
        if place is None:
            return
        note = self._note(due, now)
        made = await self.make(due.kind, now=now, connector=place.connector, key=due.key, due=due, note=note)
        plain = wording.report(made.facts, note=note)
        copies = await self._copies(due.key, place, plain, made.facts.windows, made.picture, now)
        row = ReportRow(key=due.key, kind=due.kind, due_at=due.at, posted_at=now)
        posted = False

        async def post(tx: AsyncConnection) -> None:
            nonlocal posted
            posted = await posted_reports.add(tx, row)
            if posted:
                await posted_reports.forget(tx, (*KINDS, loader.DOWN), now - KEEP)
                await self._say(tx, due.key, made.text, made.picture, place, now)
                for key, at, text, picture in copies:
                    await self._say(tx, key, text, picture, at, now)

        await self.services.store.transact(POST, post)
        if posted:
            log.info("report.posted", kind=due.kind, due_at=due.at, late=note is not None, picture=bool(made.picture))
            self._told({"type": "report", "kind": due.kind, "due_at": self.services.timestamp(due.at)})

    def _note(self, due: Due, now: float) -> str | None:
        zone = self.services.settings.timezone
        if due.is_late(now):
            started = self.services.started_at
            # A process that ran at the due time could not post the report.
            why: Why = "down" if self._swept_at is None and started > due.late_from else "away"
            return wording.late(due.at, now, zone, why, due.missed)
        if due.quiet or due.missed:
            return wording.late(due.at, now, zone, "quiet" if due.quiet else "missed", due.missed)
        return None

    async def _cross(self, planned: Schedule, now: float) -> None:
        """Report the windows that passed a share, if this is switched on."""
        if not planned.on:
            return
        settings = self.services.settings
        hours = settings.schedules.quiet
        quiet = hours is not None and schedule.quiet_until(hours, settings.timezone, now) is not None
        plain = await window_series.standing_windows(self.services)
        async with self.services.store.read() as tx:
            told = await posted_reports.of_kind(tx, threshold_alerts.TOLD)
        decision = threshold_alerts.decide(plain, told, now, quiet=quiet)
        if not decision.crossings:
            if decision.over:
                async with self.services.store.write(REMEMBER) as tx:
                    await posted_reports.remove(tx, decision.over)
            return
        place = await self._place()
        if place is None:
            return
        cause = " ".join(sorted(row.key for row in decision.rows))
        key = f"report/budget/{now:.0f}-{hashlib.blake2s(cause.encode(), digest_size=6).hexdigest()}"
        named = {each.window.key for each in decision.crossings}
        letters, picture = None, None
        shown: Sequence[WindowPace] = ()
        try:
            shown = [each for each in await window_series.gather_windows(self.services, now) if each.key in named]
            letters, picture = await self._drawn(shown, now, place.connector, key)
        except MusterError:
            raise
        except Exception:
            # The history is only for the picture, and the alert is more important.
            log.exception("report.not_drawn")
        text = wording.crossed(decision.crossings, settings.timezone)
        copies = await self._copies(key, place, text, shown, picture, now)

        async def post(tx: AsyncConnection) -> None:
            await posted_reports.remove(tx, decision.over)
            for row in decision.rows:
                await posted_reports.replace(tx, row)
            await self._say(tx, key, f"{text}\n\n{letters}" if letters else text, picture, place, now)
            for copy, at, words, drawn in copies:
                await self._say(tx, copy, words, drawn, at, now)

        await self.services.store.transact(POST, post)
        log.info("report.crossed", windows=sorted(named), picture=bool(picture))
        passed = [{"window": each.window.key, "share": each.share} for each in decision.crossings]
        self._told({"type": "report", "kind": "budget", "crossings": passed})

    async def _copies(
        self,
        key: str,
        place: MessagePlace,
        text: str,
        shown: Sequence[WindowPace],
        picture: Path | None,
        now: float,
    ) -> list[tuple[str, MessagePlace, str, Path | None]]:
        """Return copies for the rooms that mirror this place: key, place, text and picture, as each can show it."""
        made = []
        for copy, at in self.services.bridge.spread(key, place)[1:]:
            letters, drawn = None, picture
            can = self.services.capabilities(at.connector)
            if picture is None or not (can.files and can.pictures):
                letters, drawn = await self._drawn(shown, now, at.connector, copy)
            made.append((copy, at, f"{text}\n\n{letters}" if letters else text, drawn))
        return made

    async def _say(
        self, tx: AsyncConnection, key: str, text: str, picture: Path | None, place: MessagePlace, now: float
    ) -> None:
        can = self.services.capabilities(place.connector)
        words = self.services.redact(written(text, self.services.command_prefix))
        for outbound in self.speaker.say(key, words, place, can):
            await outbox.put(tx, outbound, now)
        if picture is not None:
            await outbox.put(tx, place.outbound(f"{key}/picture", file_of(picture), Priority.REPLY), now)

    def _told(self, event: dict[str, object]) -> None:
        self.services.delivery.wake()
        self.services.events.publish(event)

    async def _place(self) -> MessagePlace | None:
        """Return where reports are posted, or None if nowhere, which is logged once."""
        room = self.services.settings.schedules.room
        if room is not None:
            connector, _, conversation = room.partition(":")
            return MessagePlace(connector, conversation=conversation)
        async with self.services.store.read() as tx:
            place = await rooms.fleet_room(tx, lambda: self.services.main_room(None))
        if place is None:
            if not self._roomless:
                log.warning("report.no_room")
            self._roomless = True
        return place


def file_of(picture: Path) -> File:
    """Return the picture as a message next to the complete text."""
    return File(path=str(picture), name="pace.png", media_type="image/png", caption="Used, against the line.")


def _named(key: str) -> str:
    """Return the key of an agent that was down, without the cause."""
    return "/".join(key.split("/", 4)[:4])
