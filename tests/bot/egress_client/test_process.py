"""The egress as a process: it outlives the orchestrator, and comes back when it is killed."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bot.app.wiring import budgets as wiring
from bot.config.paths import Paths
from bot.egress_client import process
from bot.egress_client.client import EgressClient
from bot.egress_client.process import EgressNotStarted, EgressProcess, places
from egress.daemon.control_client import EgressControlClient
from tests import waiting
from tests.bot.egress_client.test_client import spent
from tests.bot.orchestrator import ROOM, House, egress_client, house
from tests.system.installation import end_egress


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


async def test_one_that_took_anothers_place_between_two_looks_is_told_the_keys(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, start, over = EgressProcess.find, EgressProcess.start, asyncio.Event()

    async def find_later(self: EgressProcess) -> EgressControlClient | None:
        await over.wait()
        return await find(self)

    async def start_later(self: EgressProcess) -> EgressControlClient:
        await over.wait()
        return await start(self)

    assert isinstance(home.egress, EgressProcess)
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        await home.marks(home.say("one", thread), "✅")
        first = pid_of(home.paths)
        monkeypatch.setattr(EgressProcess, "find", find_later)
        monkeypatch.setattr(EgressProcess, "start", start_later)
        async with asyncio.timeout(30):
            os.kill(first, signal.SIGKILL)
            await waiting.until(lambda: not process.listens(places(home.paths).control))
            with process.spawn(home.paths, {"PATH": os.environ["PATH"]}, ()) as second:
                await waiting.until(lambda: process.listens(places(home.paths).control))
                second.returncode = 0  # It outlives us.
            # As if nobody had noticed: the same client, at the same socket.
            egress_client(orchestrator).client = await find(home.egress)
        over.set()
        await egress_client(orchestrator).ensure()
        await home.marks(home.say("two", thread), "✅")
        assert pid_of(home.paths) == second.pid


@pytest.fixture
def older(tmp_path: Path) -> str:
    """The program as an update left it in another place: by its path it is told that a process is not of this one."""
    place = tmp_path / "older"
    place.symlink_to(sys.prefix)
    return str(place / "bin" / "python")


async def test_an_egress_of_an_older_version_gives_way_when_nothing_streams(
    home: House, older: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as then:
        then.setattr(process, "sys", SimpleNamespace(executable=older))
        async with home.open():
            thread = await home.launch("coder0")
            await home.marks(home.say("one", thread), "✅")
            first = pid_of(home.paths)
            assert process.command_of(first)[0] == older
            midway = home.say("[[say: half of it,]][[wait: update]][[say: and the rest]]", thread)
            await streams(home, 1)
    looked = 0
    is_outdated = EgressProcess.is_outdated

    async def counted(self: EgressProcess) -> bool:
        nonlocal looked
        found = await is_outdated(self)
        looked += found
        return found

    monkeypatch.setattr(EgressProcess, "is_outdated", counted)
    monkeypatch.setattr(wiring, "EgressClient", functools.partial(EgressClient, every_s=0.05))
    async with home.open():
        # Several looks, each of which finds it outdated and busy; what the last one leads to is done before the next.
        await waiting.until(lambda: looked > 3)
        await streams(home, 1)
        assert pid_of(home.paths) == first, "not in the middle of an answer"
        home.models.release("update")
        await home.marks(midway, "✅")
        await home.heard(thread, "and the rest")
        await until_another(home.paths, first)
        await home.marks(home.say("three", thread), "✅")
        assert process.command_of(pid_of(home.paths))[0] == sys.executable
        used = await spent(home, 3)
        assert (used.requests, used.estimated) == (3, 0), "none lost, none doubled, none estimated"


@pytest.mark.slow
async def test_an_older_egress_that_is_never_idle_gives_way_in_the_end_and_what_streams_is_settled(
    home: House, older: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as then:
        then.setattr(process, "sys", SimpleNamespace(executable=older))
        async with home.open():
            thread = await home.launch("coder0")
            midway = home.say("[[say: half of it,]][[hang]]", thread)
            await streams(home, 1)
            first = pid_of(home.paths)
    monkeypatch.setattr(wiring, "EgressClient", functools.partial(EgressClient, renew_after_s=0.0))
    async with home.open():
        await until_another(home.paths, first)
        await home.marks(midway, "❌")
        assert (await spent(home, 1)).requests == 1, "settled once"
        await home.marks(home.say("again", thread), "✅")
        assert (await spent(home, 2)).requests == 2


async def streams(home: House, requests: int) -> None:
    """Wait until so many requests are under way."""
    await waiting.until(lambda: home.ask("!health"), lambda found: f"requests under way: {requests}" in found, limit=60)


async def until_another(paths: Paths, first: int) -> None:
    """Wait until another egress listens than that process."""
    await waiting.until(
        lambda: process.pid_of(paths) not in (first, None) and process.listens(places(paths).control), limit=60
    )


async def test_why_it_does_not_come_up_is_said(tmp_path: Path) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    paths.prepare()
    places(paths).folder.mkdir()
    places(paths).lock.mkdir()
    source = EgressProcess(paths, {})
    with pytest.raises(EgressNotStarted, match="ended with status 1"):
        async with asyncio.timeout(60):
            await source.start()
    assert await source.find() is None
