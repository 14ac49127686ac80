"""Which report is due, and how late it is. Pure: schedules and what was posted in, a decision out.

Of a kind, only what was due last is ever posted: what was missed before that is counted, and not caught up. What was
due before someone set the schedule, before a backup was put back, or in a future that a wrong clock showed, is not
due.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final, Literal

from bot.config.reports import KINDS
from scheduler.cron import Cron, CronError, next_after, previous_before

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from zoneinfo import ZoneInfo

    from bot.config.reports import Kind, QuietHours, Schedules
    from database.queries.operations.report_schedules import ScheduleRow

#: Seconds after which a report is told to be late.
LATE_S: Final = 300.0
#: Of what was posted before a schedule was set, seconds for which it still is the one before: a new time of day, or a
#: weekend, leaves no day out, and what was off for a month starts again.
_BEFORE_S: Final = 7 * 86_400.0
#: So many missed ones are counted.
_COUNTED: Final = 1000
#: What a command says of a kind that is not posted by the clock to switch it on.
ON: Final = "on"


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When one kind of report is posted."""

    kind: Kind
    cron: Cron | None
    """None: not by the clock."""
    on: bool
    """Whether it is posted at all."""
    source: Literal["command", "muster.yaml", "default"]
    set_by: str | None = None
    set_at: float | None = None
    problem: str | None = None
    """Why what was set cannot be followed."""

    @property
    def fingerprint(self) -> str:
        """Other for another time."""
        text = "" if self.cron is None else f"{self.cron.expression} {self.cron.zone.key}"
        return hashlib.blake2s(text.encode(), digest_size=6).hexdigest()

    def next_after(self, at: float) -> float | None:
        """Return when it is due next; None: no one can say."""
        return None if self.cron is None or not self.on else next_after(self.cron, at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A report that is to be posted now. Times are seconds since the epoch."""

    kind: Kind
    at: float
    """When it was due."""
    late_from: float
    """What is posted this much later is late: `at`, or the end of the quiet hours that it fell into."""
    quiet: bool
    """Whether it waited for quiet hours to end."""
    missed: int
    """How many that were due before it were never posted."""
    last: float | None
    """When the one before it was due that was posted; None: there was none since the schedule holds, nor within a week
    before `at`."""

    @property
    def key(self) -> str:
        return f"report/{self.kind}/{self.at:.0f}"

    def is_late(self, now: float) -> bool:
        return now > self.late_from + LATE_S


def in_force(settings: Schedules, rows: Iterable[ScheduleRow], zone: ZoneInfo) -> list[Schedule]:
    """Return when each kind is posted: as a command said, otherwise as muster.yaml does."""
    given = {row.kind: row for row in rows}
    return [_by_command(kind, given[kind], zone) if kind in given else _by_file(kind, settings, zone) for kind in KINDS]


def _by_file(kind: Kind, settings: Schedules, zone: ZoneInfo) -> Schedule:
    source: Literal["muster.yaml", "default"] = "muster.yaml" if kind in settings.model_fields_set else "default"
    if kind == "budget":
        return Schedule(kind=kind, cron=None, on=settings.budget, source=source)
    written = settings.cron_of(kind)
    return Schedule(kind=kind, cron=None if written is None else Cron(written, zone), on=bool(written), source=source)


def _by_command(kind: Kind, row: ScheduleRow, zone: ZoneInfo) -> Schedule:
    from zoneinfo import ZoneInfo

    cron, problem = None, None
    if row.cron and kind != "budget":
        try:
            # The zone in which it was meant: `timezone` may have changed since.
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
    """Return when it was due last, `now` included; None: it is not posted by the clock."""
    if schedule.cron is None or not schedule.on:
        return None
    # Cron knows whole minutes; what is due at this very moment is due.
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
    """Return the report that is to be posted now; None: none is.

    Args:
        schedule: of the kind.
        since: what was due at this moment or before is not.
        posted: when those were due that were posted, as far as they are known.
        quiet: hours in which nothing is posted.
        zone: in which they are meant.
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
    """Return when the quiet hours end in which `at` lies; None: it lies in none."""
    wall = datetime.fromtimestamp(at, zone)
    clock, over_midnight = wall.time(), quiet.from_ > quiet.to
    inside = clock >= quiet.from_ or clock < quiet.to if over_midnight else quiet.from_ <= clock < quiet.to
    if not inside:
        return None
    return min(end for day in (wall.date(), wall.date() + timedelta(days=1)) for end in _ends(day, quiet.to, zone, at))


def _ends(day: date, clock: time, zone: ZoneInfo, after: float) -> Sequence[float]:
    # An hour that comes twice ends quiet hours the second time only for who is still within them then.
    moments = (datetime.combine(day, clock, zone).replace(fold=fold).timestamp() for fold in (0, 1))
    return [moment for moment in moments if moment > after]
