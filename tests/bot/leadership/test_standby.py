"""Who stands by says who leads, and leads when that one lets go or falls silent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.config.instance_lock import AlreadyRunning, holder
from bot.config.loader import load
from bot.config.paths import Paths
from bot.leadership import lease, standby
from bot.leadership.standby import Standby
from database.engine.store import Store
from database.queries.operations import leases
from tests.postgres import Postgres

THERE = Path("/state/there")
#: Holds the lock of an installation and does nothing.
HOLDER = (
    "import sys, time; from bot.config.instance_lock import only_one\n"
    "with only_one(sys.argv[1]): print(1, flush=True); time.sleep(60)"
)


@pytest.fixture
def url(postgres: Postgres, emptied_database: str) -> str:
    return postgres.url(emptied_database)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await Store.open(url)
    yield opened
    await opened.close()


@pytest.fixture
def heard() -> list[str]:
    """What whoever stands by said."""
    return []


@pytest.fixture
def second(tmp_path: Path, url: str, heard: list[str], monkeypatch: pytest.MonkeyPatch) -> Standby:
    """It stands by in an installation of its own."""
    monkeypatch.setattr(standby, "LOOK", 0.01)
    paths = Paths.of({"MUSTER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})
    paths.prepare()
    paths.muster_yaml.write_text(f"register: {{url: '{url}'}}\n")
    return Standby(paths=paths, settings=load(paths), environ={}, say=heard.append)


async def stands_by(one: Standby, waiting: asyncio.Task[bool]) -> None:
    async with asyncio.timeout(20):
        while holder(one.paths.standby_lock) is None:
            await asyncio.wait({waiting}, timeout=0.01)
            assert not waiting.done()


async def test_it_says_who_leads_and_leads_when_that_one_lets_go(
    store: Store, second: Standby, heard: list[str]
) -> None:
    async with lease.held(store, THERE, time.time):
        waiting = asyncio.create_task(second.wait(asyncio.Event()))
        await stands_by(second, waiting)
        with pytest.raises(AlreadyRunning):
            await second.wait(asyncio.Event())
        assert not waiting.done()
    assert await asyncio.wait_for(waiting, 20)
    assert len(heard) == 1
    assert f"It takes over when process {os.getpid()} on" in heard[0]


async def test_it_ends_when_it_is_told_to_though_it_never_led(store: Store, second: Standby) -> None:
    stop = asyncio.Event()
    async with lease.held(store, THERE, time.time):
        waiting = asyncio.create_task(second.wait(stop))
        await stands_by(second, waiting)
        stop.set()
        assert await asyncio.wait_for(waiting, 20) is False


async def test_a_leader_of_its_own_installation_that_is_silent_is_ended_and_followed(
    store: Store, second: Standby, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The register was there for as long as it takes to know that nobody renews.
    monkeypatch.setattr(lease, "SHARED_DURATION", 0.0)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(second.paths.lock)], stdout=subprocess.PIPE) as silent:
        assert silent.stdout is not None
        await asyncio.to_thread(silent.stdout.readline)
        owner = f"process {silent.pid}{lease.whereabouts(second.paths.state)}"
        async with store.write(lease.HOLD) as tx:
            now = await lease.time_of(tx, store, time.time)
            await leases.acquire(tx, lease.NAME, owner, now=now - 100.0, duration=60.0)
        try:
            assert await asyncio.wait_for(second.wait(asyncio.Event()), 20)
            assert await asyncio.to_thread(silent.wait, 20) == -signal.SIGKILL
        finally:
            silent.kill()
    assert "has been silent for too long" in heard[-1]
