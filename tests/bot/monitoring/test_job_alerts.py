"""A job that fails is told in the room once, over restarts too, and its end once."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import Composer, MessagePlace
from bot.monitoring.job_alerts import JobAlertPoster
from connectors.contract.messages import Capabilities
from core.errors import RegisterAway
from database.engine.store import Store
from database.queries.operations import watchdog_findings
from scheduler import job_alert_policy
from scheduler.jobs import Job, JobRecord
from tests.bot.orchestrator import ROOM, house


async def test_the_room_hears_of_a_job_that_fails_once_over_restarts_and_once_when_it_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_alert_policy, "CALM_S", 0.2)
    broken, runs = True, 0

    def ran() -> int:
        return runs

    async def sweep() -> None:
        nonlocal runs
        runs += 1
        if broken:
            raise OSError("the shelf is `on fire` @ana")

    def told(words: str) -> list[str]:
        return [text for text in home.chat.texts(ROOM) if words in text]

    async with house(tmp_path) as home:
        written = home.paths.muster_yaml.read_text()
        home.paths.muster_yaml.write_text(written.replace("memory: {}", f"memory: {{fleet_room: {ROOM}}}"))
        for _ in range(2):
            async with home.open() as orchestrator:
                orchestrator.services.jobs.put(Job("shelf", 0.02, sweep))
                runs = 0
                await home.chat.until(lambda: ran() > 5)
                await home.heard(ROOM, "The job **shelf** (every 0.02 s) failed")
                health = await home.ask("!health")
                assert "✗ job shelf (every 0.02 s): the shelf is" in health
                await orchestrator.quiet()
        assert len(told(") failed: ")) == 1
        broken = False
        async with home.open() as orchestrator:
            orchestrator.services.jobs.put(Job("shelf", 0.02, sweep))
            await home.heard(ROOM, "The job **shelf** succeeds again")
            runs = 0
            await home.chat.until(lambda: ran() > 5)
            await orchestrator.quiet()
        assert len(told("succeeds again")) == 1
        assert len(told(") failed: ")) == 1


async def test_of_a_report_that_is_switched_off_nothing_is_wrong_any_more(tmp_path: Path) -> None:
    async def sweep() -> None:
        raise OSError("the printer is on fire")

    async with house(tmp_path) as home:
        written = home.paths.muster_yaml.read_text()
        home.paths.muster_yaml.write_text(written.replace("memory: {}", f"memory: {{fleet_room: {ROOM}}}"))

        async def failed(times: int) -> None:
            jobs = home.orchestrator.services.jobs

            def told() -> bool:
                # When schedules are arranged, as a start does some time, a job that is in none of them is dropped.
                if "report weekly" not in {each.name for each in jobs.records()}:
                    jobs.put(Job("report weekly", 0.02, sweep))
                return sum("The job **report weekly**" in text for text in home.chat.texts(ROOM)) == times

            await home.chat.until(told, limit=30)

        async def forgotten() -> None:
            async with asyncio.timeout(30):
                while True:
                    async with home.orchestrator.store.read() as tx:
                        if not await watchdog_findings.of_jobs(tx):
                            return
                    await asyncio.sleep(0.02)

        async with home.open():
            await failed(1)
        # It is off by default, so there is no such job once Muster is started again.
        async with home.open():
            await forgotten()
            await failed(2)
            await home.ask("!schedule off weekly")
            await forgotten()
            assert "report weekly" not in await home.ask("!health")


async def test_a_register_that_is_away_is_no_job_s_failure(tmp_path: Path) -> None:
    runs = 0

    async def sweep() -> None:
        nonlocal runs
        runs += 1
        raise RegisterAway

    async with house(tmp_path) as home, home.open() as orchestrator:
        orchestrator.services.jobs.put(Job("shelf", 0.02, sweep))
        await home.chat.until(lambda: runs > 3)
        await home.ask("!whoami")
        await orchestrator.quiet()
        assert not [text for text in home.chat.texts(ROOM) if "shelf" in text]


async def test_what_cannot_be_told_is_told_after_a_later_run(tmp_path: Path) -> None:
    """Such as on a full disk, where words that are too long for a message cannot be put into a file."""
    store = await Store.open(f"sqlite:///{tmp_path / 'register.db'}")
    tried = asyncio.Event()

    async def room(tx: AsyncConnection) -> MessagePlace:
        if not tried.is_set():
            tried.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        return MessagePlace("memory", conversation="room")

    told = asyncio.Event()
    alarms = JobAlertPoster(
        store=store,
        channel=AgentChannel(
            speaker=Composer(tmp_path),
            redaction=str,  # type: ignore[arg-type]
            capabilities=lambda _: Capabilities(),
            clock=lambda: 1_000_000.0,
            time_of_day=str,
            prefix="!",
        ),
        room=room,
        wake_delivery=told.set,
    )
    running = asyncio.create_task(alarms.run())
    async with asyncio.timeout(20):
        alarms.ended(JobRecord(name="sweep", last_error="boom"))
        await tried.wait()
        alarms.ended(JobRecord(name="sweep", last_error="boom"))
        await asyncio.wait([running, asyncio.create_task(told.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert told.is_set()
    running.cancel()
    await asyncio.wait([running])
    await store.close()
