"""Decision of which report is due, and how late it is, from the schedules and the posted reports. Pure.

Only the latest due report of a kind is ever posted; earlier missed ones are counted, but not posted. A time is not due
if it precedes the setting of the schedule or the restoration of a backup. A time that only a wrong clock reached is
not due either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from bot.config.reports import KINDS, Kind, QuietHours, Schedules
from database.queries.operations.report_schedules import ScheduleRow
from scheduler.cron import Cron, CronError, next_after, previous_before

#: Seconds after which a report counts as late.
LATE_S: Final = 300.0
#: Seconds for which a report posted before a change of the schedule counts as the previous one. So a new time of day or
#: a weekend leaves no day out. A schedule that was off for a month starts afresh.
_BEFORE_S: Final = 7 * 86_400.0
#: Maximum number of missed reports that are counted.
_COUNTED: Final = 1000
#: Value in commands that switches on a kind without a schedule.
ON: Final = "on"


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The schedule of one kind of report."""

    kind: Kind
    cron: Cron | None
    """None: it has no times."""
    on: bool
    """Whether it is posted at all."""
    source: Literal["command", "muster.yaml", "default"]
    set_by: str | None = None
    set_at: float | None = None
    problem: str | None = None
    """Why the schedule is invalid."""

    @property
    def fingerprint(self) -> str:
        """A hash that differs for different times."""
        text = "" if self.cron is None else f"{self.cron.expression} {self.cron.zone.key}"
        return hashlib.blake2s(text.encode(), digest_size=6).hexdigest()

    def next_after(self, at: float) -> float | None:
        """Return when it is due next, or None if there is no such time."""
        return None if self.cron is None or not self.on else next_after(self.cron, at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A report that has to be posted now. Times are seconds since the epoch."""

    kind: Kind
    at: float
    """The time at which it was due."""
    late_from: float
    """The time from which a delay counts: `at`, or the end of the quiet hours around it."""
    quiet: bool
    """Whether it waited for the end of quiet hours."""
    missed: int
    """Number of earlier reports that were due but never posted."""
    last: float | None
    """Due time of the previous posted report; None: none since the schedule was set, nor in the week before `at`."""

    @property
    def key(self) -> str:
        return f"report/{self.kind}/{self.at:.0f}"

    def is_late(self, now: float) -> bool:
        return now > self.late_from + LATE_S


def in_force(settings: Schedules, rows: Iterable[ScheduleRow], zone: ZoneInfo) -> list[Schedule]:
    """Return when each kind is posted: as set by command, or else by muster.yaml."""
    given = {row.kind: row for row in rows}
    return [_by_command(kind, given[kind], zone) if kind in given else _by_file(kind, settings, zone) for kind in KINDS]


def _by_file(kind: Kind, settings: Schedules, zone: ZoneInfo) -> Schedule:
    source: Literal["muster.yaml", "default"] = "muster.yaml" if kind in settings.model_fields_set else "default"
    if kind == "budget":
        return Schedule(kind=kind, cron=None, on=settings.budget, source=source)
    written = settings.cron_of(kind)
    return Schedule(kind=kind, cron=None if written is None else Cron(written, zone), on=bool(written), source=source)


def _by_command(kind: Kind, row: ScheduleRow, zone: ZoneInfo) -> Schedule:
    cron, problem = None, None
    if row.cron and kind != "budget":
        try:
            # The zone in which it was set: `timezone` may have changed since.
            meant = zone if row.zone == zone.key else ZoneInfo(row.zone)
            cron = Cron(row.cron, meant)
        except (CronError, ValueError, OSError, KeyError) as error:
            problem = str(error)
    return Schedule(
        kind=kind,
        cron=cron,
        on=bool(row.cron) and problem is None,
        source="command",
        set_by=row.set_by,
        set_at=row.set_at,
        problem=problem,
    )


def last_due(schedule: Schedule, now: float) -> float | None:
    """Return when it was due last, including `now`, or None if it has no times."""
    if schedule.cron is None or not schedule.on:
        return None
    # Cron times are whole minutes, and a time that equals `now` counts as due.
    return previous_before(schedule.cron, now + 0.5)


def due(
    schedule: Schedule,
    *,
    since: float,
    posted: Collection[float],
    quiet: QuietHours | None,
    zone: ZoneInfo,
    now: float,
) -> Due | None:
    """Return the report that has to be posted now, or None.

    Args:
        schedule: the schedule of the kind.
        since: only later times can be due.
        posted: due times of the posted reports, as far as known.
        quiet: hours in which nothing is posted.
        zone: the time zone of these hours.
        now: seconds since the epoch.
    """
    at = last_due(schedule, now)
    if at is None or at <= since or at in posted:
        return None
    if quiet is not None and quiet_until(quiet, zone, now) is not None:
        return None
    held_until = None if quiet is None else quiet_until(quiet, zone, at)
    last = max((each for each in posted if min(since, at - _BEFORE_S) < each < at), default=None)
    return Due(
        kind=schedule.kind,
        at=at,
        late_from=at if held_until is None else held_until,
        quiet=held_until is not None,
        missed=_missed(schedule.cron, at, since if last is None else max(since, last)),
        last=last,
    )


def _missed(cron: Cron | None, at: float, begin: float) -> int:
    """Return how many were due between `begin` and `at`."""
    assert cron is not None
    count = 0
    while count < _COUNTED:
        at = previous_before(cron, at)
        if at <= begin:
            break
        count += 1
    return count


def quiet_until(quiet: QuietHours, zone: ZoneInfo, at: float) -> float | None:
    """Return when the quiet hours around `at` end, or None if there are none."""
    wall = datetime.fromtimestamp(at, zone)
    clock, over_midnight = wall.time(), quiet.from_ > quiet.to
    inside = clock >= quiet.from_ or clock < quiet.to if over_midnight else quiet.from_ <= clock < quiet.to
    if not inside:
        return None
    return min(end for day in (wall.date(), wall.date() + timedelta(days=1)) for end in _ends(day, quiet.to, zone, at))


def _ends(day: date, clock: time, zone: ZoneInfo, after: float) -> Sequence[float]:
    # If an hour occurs twice, quiet hours end the second time only for a moment that is still within them.
    moments = (datetime.combine(day, clock, zone).replace(fold=fold).timestamp() for fold in (0, 1))
    return [moment for moment in moments if moment > after]
