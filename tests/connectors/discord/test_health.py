"""What health says of the connection when something is wrong, and what mends it."""

from __future__ import annotations

import asyncio

import pytest

from connectors.discord import gateway_session
from tests.connectors.discord.conftest import Desk
from tests.connectors.discord.fake_server_state import GUILDS, Place


async def test_a_channel_that_is_not_in_the_server_is_named(desk: Desk) -> None:
    async with desk.open(channel="234567890123456789"):
        health = await desk.health(lambda found: found.reachable is True)
    assert "no such channel in the server as 234567890123456789" in health.detail
    assert health.impaired
    async with desk.open():
        health = await desk.health(lambda found: found.reachable is True)
    assert "no such channel" not in health.detail
    assert not health.impaired


async def test_what_waits_for_a_channel_that_was_named_by_mistake_leaves_the_connector_well(desk: Desk) -> None:
    world = desk.world
    wrong = world.add(Place(id=world.fresh(), type=0, name="wrong", denied={"view"}))
    async with desk.open():
        await desk.office.put("old", to=str(wrong.id))
        health = await desk.health(lambda found: f"may not say something in {wrong.id}" in found.detail)
        assert not health.impaired
        world.channel.denied = {"send"}
        await desk.office.put("new", to=desk.room)
        await desk.health(lambda found: found.impaired)


async def test_connected_without_being_of_use_is_not_well(desk: Desk) -> None:
    world = desk.world
    async with desk.open():
        await desk.health(lambda found: not found.impaired)
        world.channel.denied = {"threads"}
        world.dispatch("CHANNEL_UPDATE", world.place_json(world.channel), GUILDS)
        lacking = await desk.health(lambda found: found.impaired)
        assert "Create Public Threads" in lacking.detail
        world.channel.denied = set()
        world.dispatch("CHANNEL_UPDATE", world.place_json(world.channel), GUILDS)
        await desk.health(lambda found: not found.impaired)
        world.dispatch("GUILD_DELETE", {"id": str(world.guild)}, GUILDS)
        outside = await desk.health(lambda found: found.impaired)
        assert "is not in the server" in outside.detail
        assert "in the server" not in outside.detail.partition(". ")[0], "not both"
        world.dispatch("GUILD_CREATE", world.guild_json(), GUILDS)
        await desk.health(lambda found: not found.impaired)


async def test_while_a_lost_session_is_being_replaced_that_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = asyncio.Event()

    async def once_seen(_: object, shard_id: int | None, *, initial: bool = False) -> None:
        if not initial:
            await seen.wait()

    monkeypatch.setattr(gateway_session.GatewaySession, "before_identify_hook", once_seen)
    async with desk.open():
        desk.world.forget_sessions()
        health = await desk.health(lambda found: found.reachable is False)
        assert "reconnecting" in health.detail
        seen.set()
        await desk.health(lambda found: found.reachable is True)


async def test_when_discord_lets_it_start_no_more_sessions_that_is_said_and_tried_again(desk: Desk) -> None:
    desk.world.identifies = 1000
    async with desk.office_without_waiting():
        health = await desk.health(lambda found: "sessions" in found.detail)
        assert "no more sessions today" in health.detail
        desk.world.identifies = 0
        await desk.health(lambda found: found.reachable is True)


async def test_an_interface_that_is_too_old_is_for_a_person_to_mend(desk: Desk) -> None:
    async with desk.open():
        desk.world.drop(code=4012)
        health = await desk.health(lambda found: "4012" in found.detail)
        assert "Update Muster" in health.detail
