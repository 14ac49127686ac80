"""The fleet from a function that a test gives, as agent hosts and journals would tell it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from bot.interfaces.tui.feeds.offline_feed import OFFLINE_EPOCH, OfflineFeed
from bot.read_models.agent import AgentModel
from bot.read_models.fleet import FleetModel
from bot.read_models.limits import LimitsModel
from bot.text.errors import NotRunning
from core.errors import MusterError
from tests.bot.interfaces.tui.scene import NOW, agent


async def _at_once(_: float) -> None:
    await asyncio.sleep(0)


async def test_the_fleet_and_its_agents_are_known_and_nothing_else() -> None:
    feed = OfflineFeed(load=lambda: FleetModel(agents=(agent("coder0"),)))
    document = await feed.get("fleet")
    assert document.epoch == OFFLINE_EPOCH
    assert document.value == FleetModel(agents=(agent("coder0"),))
    assert (await feed.get("agents/coder0")).value == AgentModel(agent=agent("coder0"))
    assert (await feed.get("agents/nobody")).value is None
    for name in ("tasks", "waiting", "weather"):
        with pytest.raises(NotRunning):
            await feed.get(name)
    with pytest.raises(NotRunning):
        await feed.page("agents/coder0", "1")


async def test_limits_are_known_if_an_egress_ever_ran() -> None:
    limits = LimitsModel(at=NOW, pace_known=False)
    known = OfflineFeed(load=FleetModel, limits=lambda: limits)
    assert (await known.get("limits")).value == limits
    with pytest.raises(NotRunning):
        await OfflineFeed(load=FleetModel).get("limits")


async def test_only_changes_are_told() -> None:
    fleets = [FleetModel(agents=(agent("coder0"),))] * 3
    fleets.append(FleetModel(agents=(replace(fleets[0].agents[0], state="stopped"),)))
    looks = iter(fleets)
    feed = OfflineFeed(load=lambda: next(looks, fleets[-1]), sleep=_at_once)
    async with feed.follow(["fleet", "tasks"]) as documents:
        first, second = await anext(documents), await anext(documents)
    assert (first.value, second.value) == (fleets[0], fleets[-1])
    assert first.revision < second.revision


async def test_folders_that_cannot_be_read_are_said() -> None:
    def load() -> FleetModel:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(MusterError, match=r"The files of this installation cannot be read: Permission denied\."):
        await OfflineFeed(load=load).get("fleet")
