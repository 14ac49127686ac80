"""The egress as a process: it outlives the orchestrator, and comes back when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from bot.outlet import process
from bot.outlet.process import EgressProcess, NotStarted, places
from bot.paths import Paths
from tests.bot.house import ROOM, House, house
from tests.bot.outlet.test_outlet import spent
from tests.whole.installation import end_egress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        egress = EgressProcess(made.paths, {"KEY": "sk-test-not-a-real-key", "PATH": os.environ["PATH"]})
        made.egress = egress
        try:
            yield made
        finally:
            await egress.aclose()
            end_egress(made.paths)


def pid_of(paths: Paths) -> int:
    found = process.pid_of(paths)
    assert found is not None
    return found


@pytest.mark.slow
async def test_the_egress_outlives_the_orchestrator_and_comes_back_when_it_is_killed(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        event = home.say("one", thread)
        await home.marks(event, "✅")
        first = pid_of(home.paths)
    assert pid_of(home.paths) == first, "it goes on"
    async with home.open():
        event = home.say("two", thread)
        await home.marks(event, "✅")
        assert pid_of(home.paths) == first, "and is found again"
        before = await spent(home, 2)
        os.kill(first, signal.SIGKILL)
        await home.heard(ROOM, "The egress is not there")
        await home.heard(ROOM, "The egress is back")
        event = home.say("three", thread)
        await home.marks(event, "✅")
        assert pid_of(home.paths) != first
        assert (await spent(home, before.requests + 1)).requests == before.requests + 1
        assert "✓ egress: agents: 1" in await home.ask("!health")
    assert await process.stop(home.paths)
    assert not await process.stop(home.paths)


async def test_why_it_does_not_come_up_is_said(tmp_path: Path) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    paths.prepare()
    places(paths).folder.mkdir()
    places(paths).lock.mkdir()
    source = EgressProcess(paths, {})
    with pytest.raises(NotStarted, match="ended with status 1"):
        async with asyncio.timeout(60):
            await source.start()
    assert await source.find() is None
