"""The change between a gateway on a socket and files, as the gateway goes and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from bot.config.instance_lock import only_one
from bot.config.paths import Paths
from bot.gateway_feed.feed import GatewayFeed
from bot.interfaces.tui.feeds.offline_feed import OfflineFeed
from bot.interfaces.tui.feeds.switching_source import SourceState, SwitchingSource
from bot.interfaces.tui.start import listens, standby_of
from bot.read_models.fleet import FleetModel
from core.errors import MusterError
from tests.bot.gateway_feed.small_gateway import SmallGateway
from tests.bot.interfaces.tui.scene import agent

LIVE, FILES = FleetModel(agents=(agent("live"),)), FleetModel(agents=(agent("files"),))


async def _soon(_: float) -> None:
    await asyncio.sleep(0.02)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[SmallGateway]:
    async with SmallGateway(tmp_path / "gateway.sock").running() as running:
        await running.put("fleet", LIVE)
        yield running


def source_of(path: Path, *, away_s: float = 0.1) -> SwitchingSource:
    return SwitchingSource(
        lambda tell: GatewayFeed(path=path, tell=tell, sleep=_soon, away_s=away_s),
        OfflineFeed(load=lambda: FILES, sleep=_soon),
        listens=partial(listens, path),
    )


async def test_documents_come_from_files_while_muster_is_down_and_from_it_when_it_is_back(
    gateway: SmallGateway,
) -> None:
    source, states = source_of(gateway.path), list[SourceState]()
    source.watch(states.append)
    async with contextlib.aclosing(source.documents(["fleet"])) as documents:
        assert (await anext(documents)).value == LIVE
        await gateway.stop()
        assert (await anext(documents)).value == FILES
        assert source.state.mode == "offline"
        gateway.path.unlink(missing_ok=True)
        await gateway.start()
        async for document in documents:
            if document.value == LIVE:
                break
    assert [state.mode for state in states] == ["live", "lost", *["lost"] * (len(states) - 4), "offline", "live"]
    assert "It is tried again." in states[1].why


async def test_a_short_interruption_is_no_reason_to_look_at_files(gateway: SmallGateway) -> None:
    source = source_of(gateway.path, away_s=60.0)
    async with contextlib.aclosing(source.documents(["fleet"])) as documents:
        assert (await anext(documents)).value == LIVE
        gateway.cut()
        await gateway.put("fleet", FleetModel())
        assert (await anext(documents)).value == FleetModel()
        assert source.state.mode == "live"


async def test_how_long_muster_has_been_away_counts_from_the_beginning(gateway: SmallGateway) -> None:
    source, states = source_of(gateway.path, away_s=0.3), list[SourceState]()
    async with contextlib.aclosing(source.documents(["fleet"])) as documents:
        await anext(documents)
        source.watch(states.append)
        await gateway.stop()
        await anext(documents)
    lost = [state for state in states if state.mode == "lost"]
    assert {state.since for state in lost} == {lost[0].since}


async def test_a_document_that_there_is_not_is_refused(gateway: SmallGateway) -> None:
    async with contextlib.aclosing(source_of(gateway.path).documents(["weather"])) as documents:
        with pytest.raises(MusterError):
            await anext(documents)


async def test_a_standby_is_told_from_a_muster_that_is_down(gateway: SmallGateway) -> None:
    await gateway.stop()
    gateway.path.unlink(missing_ok=True)
    waits: list[str] = []
    source = SwitchingSource(
        lambda tell: GatewayFeed(path=gateway.path, tell=tell, sleep=_soon, away_s=0.1),
        OfflineFeed(load=lambda: FILES, sleep=_soon),
        listens=partial(listens, gateway.path),
        standby=lambda: waits[0] if waits else None,
    )
    changed = asyncio.Queue[SourceState]()
    source.watch(changed.put_nowait)
    async with contextlib.aclosing(source.documents(["fleet"])) as documents, asyncio.timeout(30):
        assert (await anext(documents)).value == FILES
        while (state := await changed.get()).mode != "offline":
            pass
        assert state.standby is None
        waits.append("process 7 waits here.")
        coming = asyncio.ensure_future(anext(documents))
        while (state := await changed.get()).standby is None:
            pass
        assert (state.mode, state.standby) == ("offline", "process 7 waits here.")
        await gateway.start()
        await gateway.put("fleet", LIVE)
        assert (await coming).value == LIVE
        while (state := await changed.get()).mode != "live":
            pass
        assert state.standby is None


def test_a_standby_is_found_by_its_lock(tmp_path: Path) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    paths.prepare()
    assert standby_of(paths) is None
    with only_one(paths.standby_lock, note="It takes over when attic ends."):
        assert standby_of(paths) == f"process {os.getpid()} waits here. It takes over when attic ends."
