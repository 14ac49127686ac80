"""Jobs run, fail visibly, and never twice at once; however the clock is set."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog
from apscheduler.schedulers import base

from core.errors import RegisterAway
from scheduler import jobs as scheduler_jobs
from scheduler.cron import Cron
from scheduler.jobs import Job, Jobs
from tests.waiting import until


async def test_a_job_runs_and_says_when_it_runs_next() -> None:
    ran = asyncio.Event()

    async def act() -> None:
        ran.set()

    jobs = Jobs((Job("sweep", 0.05, act),), time.time)
    jobs.start()
    try:
        async with asyncio.timeout(10):
            await ran.wait()
        await until(lambda: jobs.records()[0].last_run is not None, limit=10)
        (record,) = jobs.records()
        assert record.last_error is None
        assert record.next_run is not None
    finally:
        jobs.stop()
        jobs.stop()


async def test_a_job_that_fails_shows_its_error_and_goes_on() -> None:
    runs = 0

    async def act() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise OSError("the disk is on fire")

    jobs = Jobs((Job("sweep", 0.05, act),), time.time)
    jobs.start()
    try:
        await until(lambda: jobs.records()[0].last_error is not None or runs > 1, limit=10)
        await until(lambda: runs > 1 and jobs.records()[0].last_error is None, limit=10)
    finally:
        jobs.stop()


async def test_a_job_that_finds_the_register_away_says_so_in_one_line_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs = 0

    async def act() -> None:
        nonlocal runs
        runs += 1
        if runs <= 3:
            raise RegisterAway

    jobs = Jobs((Job("watchdog", 0.05, act),), time.time)
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as lines:
        jobs.start()
        try:
            await until(lambda: runs == 3, limit=10)
            await until(lambda: jobs.records()[0].last_error is not None or runs > 3, limit=10)
            await until(lambda: runs > 4 and jobs.records()[0].last_error is None, limit=10)
        finally:
            jobs.stop()
    assert [(line["event"], line["log_level"]) for line in lines] == [("job.not_done", "warning")]
    assert not [record for record in caplog.records if record.exc_info], "no traceback"


async def test_a_job_that_overruns_is_not_started_twice_and_that_is_counted() -> None:
    running = 0
    most = 0
    release = asyncio.Event()

    async def act() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1

    jobs = Jobs((Job("slow", 0.02, act),), time.time)
    jobs.start()
    try:
        await until(lambda: jobs.records()[0].missed >= 2, limit=10)
        assert most == 1
        release.set()
        await until(lambda: jobs.records()[0].last_run is not None, limit=10)
    finally:
        jobs.stop()


async def test_what_is_asked_for_soon_runs_once_and_then_at_its_times_again() -> None:
    runs = 0

    async def act() -> None:
        nonlocal runs
        runs += 1

    jobs = Jobs((Job("look", 3600.0, act),), time.time)
    jobs.soon("look")  # not begun yet: nothing to hurry
    jobs.start()
    try:
        for _ in range(5):
            jobs.soon("look", within=0.05)
        jobs.soon("nobody")
        await until(lambda: runs, limit=10)
        (record,) = jobs.records()
        assert (runs, record.missed) == (1, 0)
        assert record.next_run is not None
        assert record.next_run - time.time() > 3_000
    finally:
        jobs.stop()


async def _nothing() -> None:
    pass


async def test_a_job_says_when_it_runs_in_words_and_how_long_it_took() -> None:
    jobs = Jobs((Job("sweep", 0.02, _nothing), Job("prune", 3600.0, _nothing)), time.time)
    jobs.put(Job("report", Cron("0 9 * * mon-fri", ZoneInfo("Europe/Berlin")), _nothing))
    assert [each.schedule for each in jobs.records()] == [
        "every 0.02 s",
        "every 1 h",
        "09:00, mon-fri (Europe/Berlin)",
    ]
    jobs.start()
    try:
        await until(lambda: jobs.records()[0].duration is not None, limit=10)
        due = jobs.records()[2].next_run
        assert due is not None
        assert f"{datetime.fromtimestamp(due, ZoneInfo('Europe/Berlin')):%H:%M}" == "09:00"
    finally:
        jobs.stop()


async def test_jobs_are_put_replaced_and_dropped_while_others_run() -> None:
    ran: list[str] = []

    def noting(word: str) -> Any:
        async def act() -> None:
            ran.append(word)

        return act

    jobs = Jobs((Job("steady", 0.01, noting("steady")),), time.time)
    jobs.start()
    try:
        jobs.put(Job("late", 0.01, noting("first")))
        await until(lambda: "first" in ran, limit=10)
        jobs.put(Job("late", 0.01, noting("second")))
        await until(lambda: "second" in ran, limit=10)
        count = ran.count("first")
        assert jobs.drop("late")
        assert not jobs.drop("late")
        seconds = ran.count("second")
        steady = ran.count("steady")
        await until(lambda: ran.count("steady") > steady + 5, limit=10)
        assert (ran.count("first"), ran.count("second")) == (count, seconds)
        assert [record.name for record in jobs.records()] == ["steady"]
    finally:
        jobs.stop()


async def test_a_job_that_hangs_is_shown_as_running_since_and_what_it_missed_is_counted() -> None:
    release = asyncio.Event()

    async def act() -> None:
        await release.wait()

    jobs = Jobs((Job("hangs", 0.02, act),), time.time)
    jobs.start()
    try:
        await until(lambda: jobs.records()[0].missed >= 3, limit=10)
        record = jobs.records()[0]
        assert record.running_since is not None
        assert record.last_run is None
        release.set()
        await until(lambda: (jobs.records()[0].last_run or 0.0) >= (record.running_since or 0.0), limit=10)
    finally:
        jobs.stop()


class Wall(datetime):
    """The machine's clock, which somebody sets."""

    aside = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.aside


@pytest.mark.parametrize(
    "by",
    [
        timedelta(hours=1),
        timedelta(days=366),
        timedelta(hours=-1),
        timedelta(days=-366),
    ],
    ids=str,
)
async def test_a_clock_that_jumps_loses_no_job_and_makes_none_run_over_and_over(
    by: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "datetime", Wall)
    monkeypatch.setattr(scheduler_jobs, "datetime", Wall)
    monkeypatch.setattr(scheduler_jobs, "LOOK_AT_CLOCK", 0.01)
    monkeypatch.setattr(Wall, "aside", timedelta())
    often, daily = 0, 0

    async def every_so_often() -> None:
        nonlocal often
        often += 1

    async def once_a_day() -> None:
        nonlocal daily
        daily += 1

    in_half_an_hour = datetime.now(UTC) + timedelta(minutes=30)
    cron = Cron(f"{in_half_an_hour.minute} {in_half_an_hour.hour} * * *", ZoneInfo("UTC"))
    jobs = Jobs((Job("often", 0.05, every_so_often), Job("rarely", 1800.0, _nothing), Job("daily", cron, once_a_day)),
        time.time,
    )  # fmt: skip
    jobs.start()
    try:
        await until(lambda: often >= 2, limit=10)
        before, began = often, time.monotonic()
        monkeypatch.setattr(Wall, "aside", by)
        await until(lambda: often >= before + 5, limit=10)
        assert often - before <= (time.monotonic() - began) / 0.05 + 2, "one run for all that it missed"
        # The one of today was passed over, and is done, once; put back, it comes again at its time.
        await until(lambda: daily == (1 if by > timedelta() else 0), limit=10)
        now = Wall.now(UTC).timestamp()
        for record in jobs.records():
            assert record.next_run is not None
            assert now - 1 < record.next_run <= now + 86_400 + 1, record
        (rarely,) = [record for record in jobs.records() if record.name == "rarely"]
        assert rarely.next_run is not None
        assert rarely.next_run <= now + 1800
    finally:
        jobs.stop()
