"""The session with the gateway of a fake Discord: how it is kept, and how it is not spent."""

from __future__ import annotations

import pytest

from connectors.discord import gateway_session
from tests.connectors.discord import gateway
from tests.connectors.discord.conftest import Desk


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_session, "FIRST_PAUSE", 0.01)


async def test_a_session_that_nobody_is_there_to_resume_is_begun_anew(desk: Desk) -> None:
    desk.world.resume_at = "ws://127.0.0.1:1/gateway"
    async with desk.open():
        desk.world.drop()
        said = desk.world.say("meanwhile")
        await desk.office.until_state(f"re {said}", "sent")
    assert (desk.world.identifies, desk.world.resumes) == (2, 0)


async def test_no_session_is_started_beyond_what_discord_allows_in_a_day(desk: Desk) -> None:
    """Of who starts more, it resets the token."""
    desk.world.starts_left = 6
    desk.world.fickle = True
    async with desk.office_without_waiting():
        health = await desk.health(lambda found: "no more sessions" in found.detail)
        assert health.reachable is False
        assert desk.world.identifies == 6
        desk.world.starts_left, desk.world.fickle = 1000, False
        said = desk.world.say("hello")
        await desk.office.until_state(f"re {said}", "sent")


async def test_sessions_that_end_as_soon_as_they_begin_are_begun_more_and_more_slowly(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_session, "FIRST_PAUSE", 60.0)
    desk.world.fickle = True
    async with desk.office_without_waiting():
        await desk.world.until(lambda: desk.world.identifies)
        with pytest.raises(TimeoutError):
            await desk.world.until(lambda: desk.world.identifies > 2, limit=1.0)


async def test_a_connection_over_which_nothing_comes_any_more_is_given_up_and_nothing_is_lost(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "HEARTBEAT", 50)
    monkeypatch.setattr(gateway_session, "SILENCE_S", 0.2)
    async with desk.open():
        desk.world.freeze()
        said = desk.world.say("is anybody there?")
        await desk.office.until_state(f"re {said}", "sent")
    assert (desk.world.identifies, desk.world.resumes) == (1, 1)


async def test_a_server_with_an_outage_says_so_and_nothing_of_it_is_taken_for_read(desk: Desk) -> None:
    """At a start in the middle of one, Discord tells of the server as of one that is not there."""
    world = desk.world
    world.outage = True
    missed = world.say("before")
    async with desk.office_without_waiting():
        await desk.health(lambda found: "outage" in found.detail)
        world.outage = False
        world.return_from_outage()
        await desk.office.until_state(f"re {missed}", "sent")
        assert "outage" not in (await desk.health(lambda found: found.reachable is True)).detail
