"""Jobs run, fail visibly, and never twice at once."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import structlog

from register.errors import RegisterAway
from scheduler.jobs import Job, Jobs

if TYPE_CHECKING:
    import pytest


async def _until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_a_job_runs_and_says_when_it_runs_next() -> None:
    ran = asyncio.Event()

    async def act() -> None:
        ran.set()

    jobs = Jobs((Job("sweep", 0.05, act),), time.time)
    jobs.start()
    try:
        async with asyncio.timeout(10):
            await ran.wait()
        await _until(lambda: jobs.records()[0].last_run is not None)
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
        await _until(lambda: jobs.records()[0].last_error is not None or runs > 1)
        await _until(lambda: runs > 1 and jobs.records()[0].last_error is None)
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
            await _until(lambda: runs == 3)
            await _until(lambda: jobs.records()[0].last_error is not None or runs > 3)
            await _until(lambda: runs > 4 and jobs.records()[0].last_error is None)
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
        await _until(lambda: jobs.records()[0].missed >= 2)
        assert most == 1
        release.set()
        await _until(lambda: jobs.records()[0].last_run is not None)
    finally:
        jobs.stop()
