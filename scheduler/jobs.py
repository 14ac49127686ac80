"""Scheduled jobs. Each job is a few lines that call a service; `health` shows the results of its runs.

APScheduler runs them from memory: `Jobs.table` is the source, and nothing about jobs persists across restarts. Its
default would drop a run that is one second late, so its defaults are overridden here. A late job runs once, however
many of its times have passed, and never twice at once. APScheduler's timers follow the wall clock; when somebody sets
the clock, the due times are computed again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from core.errors import MusterError, RegisterAway
from scheduler.cron import Cron, next_after

__all__ = ["Cron", "Job", "JobRecord", "Jobs"]

log = structlog.get_logger(__name__)

#: Seconds between checks of the wall clock, and the jump in seconds from which on it counts as set.
LOOK_AT_CLOCK = 5.0
SET_BY = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """A task to run at an interval or on a schedule."""

    name: str
    #: The interval in seconds, or a schedule.
    when: float | Cron
    act: Callable[[], Awaitable[object]]

    @property
    def schedule(self) -> str:
        """The schedule in words."""
        return str(self.when) if isinstance(self.when, Cron) else f"every {_span(self.when)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """The results of a job's runs. Times are seconds since the epoch."""

    name: str
    schedule: str = ""
    #: The start of the last completed run.
    last_run: float | None = None
    #: The duration of that run in seconds.
    duration: float | None = None
    next_run: float | None = None
    last_error: str | None = None
    #: The number of due times at which the previous run was still in progress.
    missed: int = 0
    #: The start of the run in progress, or None.
    running_since: float | None = None
    #: Whether the register was away; another alert reports that.
    away: bool = False


@dataclass(slots=True)
class Jobs:
    """The scheduler and its records."""

    table: Iterable[Job]
    clock: Callable[[], float]
    #: Called after each run.
    on_ended: Callable[[JobRecord], None] | None = None
    #: Called with the name of each job to remove.
    on_dropped: Callable[[str], None] | None = None
    #: A clock in seconds that changes of the wall clock do not affect.
    steady: Callable[[], float] = time.monotonic
    _jobs: dict[str, Job] = field(default_factory=dict)
    _records: dict[str, JobRecord] = field(default_factory=dict)
    _scheduler: Any = None
    _watching: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        for job in self.table:
            self.put(job)

    # --- the table ----------------------------------------------------------------------------------------------

    def put(self, job: Job) -> None:
        """Add a job, or replace the job of the same name. A run in progress continues."""
        before = self._records.get(job.name, JobRecord(name=job.name))
        self._jobs[job.name] = job
        self._records[job.name] = replace(before, schedule=job.schedule)
        if self._scheduler is not None:
            self._schedule(job)

    def drop(self, name: str) -> bool:
        """Remove a job, and return False if no job has this name. A run in progress continues.

        An unknown name is also passed to `on_dropped`: the job may have failed before this process started.
        """
        if self.on_dropped is not None:
            self.on_dropped(name)
        if self._jobs.pop(name, None) is None:
            return False
        self._records.pop(name, None)
        if self._scheduler is not None:
            self._scheduler.remove_job(name)
        return True

    def soon(self, name: str, within: float = 1.0) -> None:
        """Run a job once within `within` seconds, unless it is unknown or running. Repeated calls add no run."""
        found = self._scheduler.get_job(name) if self._scheduler is not None else None
        record = self._records.get(name)
        if found is None or record is None or record.running_since is not None:
            return
        at = datetime.now(UTC) + timedelta(seconds=within)
        if found.next_run_time is None or at < found.next_run_time:
            found.modify(next_run_time=at)

    def mended(self, name: str) -> None:
        """Clear the error of a job's last run, because something else has done the work of that run."""
        record = self._records.get(name)
        if record is None or record.last_error is None:
            return
        self._change(name, last_error=None, away=False)
        if self.on_ended is not None:
            self.on_ended(self._records[name])

    def records(self) -> list[JobRecord]:
        """Return the current record of every job."""
        result = []
        for record in self._records.values():
            job = self._scheduler.get_job(record.name) if self._scheduler is not None else None
            due = job.next_run_time.timestamp() if job is not None and job.next_run_time is not None else None
            result.append(replace(record, next_run=due))
        return result

    # --- running ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the scheduler. Call this in the event loop that runs the jobs."""
        scheduler = AsyncIOScheduler(
            executors={"default": AsyncIOExecutor()},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone="UTC",
        )
        scheduler.add_listener(self._overran, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
        self._scheduler = scheduler
        for job in self._jobs.values():
            self._schedule(job)
        scheduler.start()
        self._watching = asyncio.create_task(self._watch_clock(), name="jobs clock")

    def stop(self) -> None:
        """Stop the scheduler and cancel running jobs. Safe to call twice."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _schedule(self, job: Job) -> None:
        trigger = _Times(job.when) if isinstance(job.when, Cron) else _Every(job.when)
        self._scheduler.add_job(
            self._run, trigger, (job.name,), id=job.name, name=job.name, replace_existing=True
        )  # fmt: skip

    async def _run(self, name: str) -> None:
        """Run a job. A `MusterError` is the reason why it could not do its work now; any other exception is a fault.

        A run that is canceled because the scheduler stops has not failed.
        """
        job = self._jobs.get(name)
        if job is None:
            return
        began, ticks = self.clock(), self.steady()
        self._change(name, running_since=began)
        error: str | None = None
        away = False
        try:
            await job.act()
        except asyncio.CancelledError:
            self._change(name, running_since=None)
            return
        except MusterError as refusal:
            error, away = str(refusal), isinstance(refusal, RegisterAway)
            if (record := self._records.get(name)) is not None and record.last_error != error:
                # Log a repeated reason once, for example while the register is away.
                log.warning("job.not_done", job=name, reason=error)
        except Exception as fault:
            error = str(fault) or type(fault).__name__
            # A repeated fault needs no second traceback.
            known = (record := self._records.get(name)) is not None and record.last_error == error
            log.error("job.failed", job=name, reason=error, exc_info=not known)
        self._change(
            name,
            last_run=began,
            duration=max(0.0, self.steady() - ticks),
            last_error=error,
            running_since=None,
            away=away,
        )
        if self.on_ended is not None and (record := self._records.get(name)) is not None:
            self.on_ended(record)

    def _change(self, name: str, **changes: Any) -> None:
        """Update the record of a job, unless the job was dropped meanwhile."""
        if (record := self._records.get(name)) is not None:
            self._records[name] = replace(record, **changes)

    def _overran(self, event: JobEvent) -> None:
        if (record := self._records.get(event.job_id)) is not None:
            self._change(event.job_id, missed=record.missed + 1)

    # --- clock changes ------------------------------------------------------------------------------------------

    async def _watch_clock(self) -> None:
        # The timers follow the machine's clock, even if `self.clock` is another one.
        apart = datetime.now(UTC).timestamp() - self.steady()
        while True:
            await asyncio.sleep(LOOK_AT_CLOCK)
            now_apart = datetime.now(UTC).timestamp() - self.steady()
            if abs(now_apart - apart) > SET_BY:
                log.warning("jobs.clock_set", by_s=round(now_apart - apart, 1))
                self._reckon_anew()
            # A gradual correction of the clock does not count as a change.
            apart = now_apart

    def _reckon_anew(self) -> None:
        """Advance each job that waits for a time of the old clock to its next time on the new clock.

        Jobs that are due on the new clock run once.
        """
        now = datetime.now(UTC)
        for each in self._scheduler.get_jobs():
            soonest = each.trigger.get_next_fire_time(None, now)
            if each.next_run_time is None or soonest < each.next_run_time:
                self._scheduler.modify_job(each.id, next_run_time=soonest)
        self._scheduler.wakeup()


class _Every(BaseTrigger):  # type: ignore[misc]
    """A trigger that fires at a fixed interval and skips missed times."""

    __slots__ = ("_length",)

    def __init__(self, seconds: float) -> None:
        self._length = timedelta(seconds=max(0.001, seconds))

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        if previous_fire_time is None:
            return now + self._length
        late = max(timedelta(), now - previous_fire_time)
        return previous_fire_time + (late // self._length + 1) * self._length


class _Times(BaseTrigger):  # type: ignore[misc]
    """A trigger that fires at the times of a schedule."""

    __slots__ = ("_cron",)

    def __init__(self, cron: Cron) -> None:
        self._cron = cron

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        after = now if previous_fire_time is None else max(previous_fire_time, now)
        return datetime.fromtimestamp(next_after(self._cron, after.timestamp()), UTC)


def _span(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
