"""Work that is done at times. Each job is a few lines that call a service; what became of its runs is in `health`.

APScheduler runs them from memory: the table below is the source, and nothing about jobs is kept across restarts. Its
defaults would drop a run that is a second late and start another while one is running, so both are set here.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import structlog
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from register.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from apscheduler.events import JobEvent

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do every so often."""

    name: str
    every_s: float
    act: Callable[[], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What became of a job's runs. Times are seconds since the epoch."""

    name: str
    last_run: float | None = None
    next_run: float | None = None
    last_error: str | None = None
    missed: int = 0


@dataclass(slots=True)
class Jobs:
    """The scheduler and its records."""

    table: tuple[Job, ...]
    clock: Callable[[], float]
    _records: dict[str, Record] = field(default_factory=dict)
    _scheduler: Any = None

    def start(self) -> None:
        """Begin. To be called in the event loop that the jobs run in."""
        scheduler = AsyncIOScheduler(
            executors={"default": AsyncIOExecutor()},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone="UTC",
        )
        mask = EVENT_JOB_EXECUTED | EVENT_JOB_ERROR | EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES
        scheduler.add_listener(self._happened, mask)
        for job in self.table:
            self._records[job.name] = Record(name=job.name)
            trigger = IntervalTrigger(seconds=job.every_s, timezone="UTC")
            scheduler.add_job(self._run, trigger, (job,), id=job.name, name=job.name)
        scheduler.start()
        self._scheduler = scheduler

    def stop(self) -> None:
        """End; a job that runs is cancelled. Safe to call twice."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    async def _run(self, job: Job) -> str | None:
        """Run a job; why it could not do its work now, which its next time may mend. What else it raises is a fault.

        One that is cut off because the scheduler stops has not failed.
        """
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await job.act()
            except MusterError as error:
                if self._records[job.name].last_error != str(error):
                    # For as long as a register is away, it is the same again and again.
                    log.warning("job.not_done", job=job.name, reason=str(error))
                return str(error)
        return None

    def _happened(self, event: JobEvent) -> None:
        record = self._records.get(event.job_id)
        if record is None:
            return
        if event.code == EVENT_JOB_EXECUTED:
            record = replace(record, last_run=self.clock(), last_error=event.retval)
        elif event.code == EVENT_JOB_ERROR:
            error = event.exception
            log.error("job.failed", job=event.job_id, error=repr(error))
            record = replace(record, last_run=self.clock(), last_error=str(error) or type(error).__name__)
        else:
            record = replace(record, missed=record.missed + 1)
        self._records[event.job_id] = record

    def records(self) -> list[Record]:
        """Every job, as it is now."""
        result = []
        for record in self._records.values():
            job = self._scheduler.get_job(record.name) if self._scheduler is not None else None
            due = job.next_run_time.timestamp() if job is not None and job.next_run_time is not None else None
            result.append(replace(record, next_run=due))
        return result
