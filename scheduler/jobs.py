"""Work that is done at times. Each job is a few lines that call a service; what happened to its runs is in `health`.

APScheduler runs them from memory: the table below is the source, and nothing about jobs is kept across restarts. Its
defaults would drop a run that is a second late and start another while one is running, so both are set here. What is
late is done once, however often it would have been due meanwhile. Its timers follow the clock; a clock that is set is
noticed, and what is due is reckoned again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from core.errors import MusterError, RegisterAway
from scheduler.cron import Cron, next_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from apscheduler.events import JobEvent

__all__ = ["Cron", "Job", "JobRecord", "Jobs"]

log = structlog.get_logger(__name__)

#: The clock is compared with the seconds that really passed so often, seconds; it was set if they differ by more.
LOOK_AT_CLOCK = 5.0
SET_BY = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do every so often, or at certain times."""

    name: str
    #: Seconds from one time to the next, or a schedule.
    when: float | Cron
    act: Callable[[], Awaitable[object]]

    @property
    def schedule(self) -> str:
        """When it runs, in words."""
        return str(self.when) if isinstance(self.when, Cron) else f"every {_span(self.when)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """What happened to a job's runs. Times are seconds since the epoch."""

    name: str
    schedule: str = ""
    #: When the last run that ended began.
    last_run: float | None = None
    #: How long that took, seconds.
    duration: float | None = None
    next_run: float | None = None
    last_error: str | None = None
    #: Times at which it could not run, since it was running still.
    missed: int = 0
    #: Since when it runs now; None: it does not.
    running_since: float | None = None
    #: The register was away, which is told elsewhere.
    away: bool = False


@dataclass(slots=True)
class Jobs:
    """The scheduler and its records."""

    table: Iterable[Job]
    clock: Callable[[], float]
    #: Told of each run that ended.
    on_ended: Callable[[JobRecord], None] | None = None
    #: Told of each job that is to be there no more.
    on_dropped: Callable[[str], None] | None = None
    #: Seconds since any moment, however the clock is set.
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
        """Add a job, or have this one instead of the one of its name; a run of that one that has begun goes on."""
        before = self._records.get(job.name, JobRecord(name=job.name))
        self._jobs[job.name] = job
        self._records[job.name] = replace(before, schedule=job.schedule)
        if self._scheduler is not None:
            self._schedule(job)

    def drop(self, name: str) -> bool:
        """Remove a job; a run that has begun goes on to its end. False: there is none of that name.

        Also of one that is not there it is told (`on_dropped`): it may have failed before this process was started.
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
        """Run a job within so many seconds, if it is there and does not run now; once, however often asked."""
        found = self._scheduler.get_job(name) if self._scheduler is not None else None
        record = self._records.get(name)
        if found is None or record is None or record.running_since is not None:
            return
        at = datetime.now(UTC) + timedelta(seconds=within)
        if found.next_run_time is None or at < found.next_run_time:
            found.modify(next_run_time=at)

    def mended(self, name: str) -> None:
        """What a job's last run could not do was done by another: nothing is wrong with it until its next run."""
        record = self._records.get(name)
        if record is None or record.last_error is None:
            return
        self._change(name, last_error=None, away=False)
        if self.on_ended is not None:
            self.on_ended(self._records[name])

    def records(self) -> list[JobRecord]:
        """Return every job, as it is now."""
        result = []
        for record in self._records.values():
            job = self._scheduler.get_job(record.name) if self._scheduler is not None else None
            due = job.next_run_time.timestamp() if job is not None and job.next_run_time is not None else None
            result.append(replace(record, next_run=due))
        return result

    # --- running ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin. To be called in the event loop that the jobs run in."""
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
        """End; a job that runs is cancelled. Safe to call twice."""
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
        """Run a job. What it raises on purpose is why it could not do its work now; all else is a fault.

        One that is cut off because the scheduler stops has not failed.
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
                # For as long as a register is away, it is the same again and again.
                log.warning("job.not_done", job=name, reason=error)
        except Exception as fault:
            error = str(fault) or type(fault).__name__
            # The same again and again needs no second traceback.
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
        """A job that was dropped meanwhile has no record any more."""
        if (record := self._records.get(name)) is not None:
            self._records[name] = replace(record, **changes)

    def _overran(self, event: JobEvent) -> None:
        if (record := self._records.get(event.job_id)) is not None:
            self._change(event.job_id, missed=record.missed + 1)

    # --- a clock that is set ------------------------------------------------------------------------------------

    async def _watch_clock(self) -> None:
        # The timers follow the machine's clock, whatever records are stamped with.
        apart = datetime.now(UTC).timestamp() - self.steady()
        while True:
            await asyncio.sleep(LOOK_AT_CLOCK)
            now_apart = datetime.now(UTC).timestamp() - self.steady()
            if abs(now_apart - apart) > SET_BY:
                log.warning("jobs.clock_set", by_s=round(now_apart - apart, 1))
                self._reckon_anew()
            # A clock that is put right little by little is none that was set.
            apart = now_apart

    def _reckon_anew(self) -> None:
        """What waits for a time that the clock showed before waits no longer than it would have from now on.

        What is due by the new time is done, once.
        """
        now = datetime.now(UTC)
        for each in self._scheduler.get_jobs():
            soonest = each.trigger.get_next_fire_time(None, now)
            if each.next_run_time is None or soonest < each.next_run_time:
                self._scheduler.modify_job(each.id, next_run_time=soonest)
        self._scheduler.wakeup()


class _Every(BaseTrigger):  # type: ignore[misc]
    """Every so many seconds. What is past is not made up for, time by time."""

    __slots__ = ("_length",)

    def __init__(self, seconds: float) -> None:
        self._length = timedelta(seconds=max(0.001, seconds))

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        if previous_fire_time is None:
            return now + self._length
        late = max(timedelta(), now - previous_fire_time)
        return previous_fire_time + (late // self._length + 1) * self._length


class _Times(BaseTrigger):  # type: ignore[misc]
    """At the times of a schedule."""

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
