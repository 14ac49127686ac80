"""Reading on a fake Discord: what counts as said to the fleet, and what of it could be missed."""

from __future__ import annotations

import time

import pytest

from connectors.contract.messages import Redaction, Text
from connectors.discord import receiver
from connectors.discord.read_cursor import ReadCursor
from tests.connectors.discord.conftest import Desk
from tests.connectors.discord.fake_server_state import TEXT, Place
from tests.connectors.discord.test_connector import arrived


async def test_what_was_said_before_the_first_start_does_not_count_where_that_did_not_see_the_channel(
    desk: Desk,
) -> None:
    """The channel's id was mistyped, or the bot was not let in yet; and our clock is a year ahead."""
    desk.world.say("!stop everything, an old one")
    blind = desk.connector(channel=str(desk.world.fresh()), clock=lambda: time.time() + 31_536_000)
    async with desk.office.open({"discord": blind}):
        await blind.connected()
    desk.world.say("!stop everything")
    desk.world.pass_minutes(1)
    async with desk.open():
        pass
    said = desk.world.say("while away")
    async with desk.open():
        await desk.office.until_state(f"re {said}", "sent")
    assert [event for event, *_ in await arrived(desk)] == [said]


async def test_what_was_said_in_another_channel_before_it_was_the_fleets_does_not_count(desk: Desk) -> None:
    world = desk.world
    async with desk.open():
        first = world.say("hello", place=world.direct(world.ana))
        await desk.office.until_state(f"re {first}", "sent")
    other = world.add(Place(id=world.fresh(), type=TEXT, name="other"))
    world.say("!stop, as people say here", place=other)
    private = world.say("in private, while away", place=world.direct(world.ana))
    async with desk.open(channel=str(other.id)):
        await desk.office.until_state(f"re {private}", "sent")
    world.pass_minutes(1)
    said = world.say("while away", place=other)
    async with desk.open(channel=str(other.id)):
        await desk.office.until_state(f"re {said}", "sent")
    assert [event for event, *_ in await arrived(desk)] == [first, private, said]


async def test_what_is_said_in_private_hides_nothing_that_is_said_in_a_server_with_an_outage(desk: Desk) -> None:
    world = desk.world
    async with desk.open():
        first = world.say("before")
        await desk.office.until_state(f"re {first}", "sent")
        world.vanish()
        missed = world.say("during")
        world.pass_minutes(60)
        private = world.say("in private", place=world.direct(world.ana))
        await desk.office.until_state(f"re {private}", "sent")
        world.return_from_outage()
        await desk.office.until_state(f"re {missed}", "sent")
        world.pass_minutes(60)
        last = world.say("after")
        await desk.office.until_state(f"re {last}", "sent")
    assert ReadCursor.decode(await desk.cursor()).floor > int(private), "the cursor goes on as before"


async def test_messages_that_a_moderator_deletes_at_once_are_each_taken_back(desk: Desk) -> None:
    async with desk.open():
        said = [desk.world.say(text) for text in ("one", "two")]
        await desk.office.until_state(f"re {said[1]}", "sent")
        desk.world.purge(said)
        await desk.world.until(lambda: len(desk.office.handled) == 4)
    assert [body for *_, body in await arrived(desk)][2:] == [Redaction(target=each) for each in said]


async def test_what_somebody_forwards_is_read_as_a_quotation_with_its_files(desk: Desk) -> None:
    given = desk.world.upload("log.txt", "text/plain", b"oops")
    async with desk.open():
        said = desk.world.forward("!stop coder0\nplease", [given])
        await desk.office.until_state(f"re {said}", "sent")
        ((_, _, _, body),) = await arrived(desk)
        assert isinstance(body, Text)
        assert body.text == "Forwarded:\n> !stop coder0\n> please"
        assert desk.office.delivery is not None
        connector = desk.office.delivery.connector("discord")
        assert connector is not None
        assert await connector.download(body.attachments[0], limit=4) == b"oops"


async def test_more_than_fits_while_a_gap_is_read_makes_it_read_anew_and_is_not_lost(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "MOST_WAITING", 4)
    async with desk.open():
        pass
    missed = desk.world.say("missed")
    late: list[str] = []

    def flood(request: str) -> None:
        """People write while the history is being read."""
        if request.endswith(f"{desk.room}/messages") and request.startswith("GET") and not late:
            late.extend(desk.world.say(f"late {number}") for number in range(5))

    desk.world.on_request = flood
    async with desk.open():
        await desk.office.until_state(f"re {late[-1]}", "sent")
    assert [event for event, *_ in await arrived(desk)] == [missed, *late]
    assert desk.world.identifies > 2


async def test_of_many_archived_threads_each_is_read_and_older_ones_are_not_asked_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "PAGE", 2)
    world = desk.world
    old = [world.open_thread(world.channel, world.fresh(), f"old {number}") for number in range(6)]
    for number, each in enumerate(old):
        world.say("long ago", place=each)
        each.archived, each.archived_at = True, time.time() - 86_400 * (number + 1)
    async with desk.open():
        pass
    world.pass_minutes(1)
    new = [world.open_thread(world.channel, world.fresh(), f"new {number}") for number in range(5)]
    missed = [world.say(f"{word} {each.name}", place=each) for each in new for word in ("one", "two", "three")]
    for number, each in enumerate(new):
        each.archived, each.archived_at = True, int(time.time()) + number
    world.wire.clear()
    async with desk.open():
        for event in missed:
            await desk.office.until_state(f"re {event}", "sent")
    assert [event for event, *_ in await arrived(desk) if event in missed] == [
        each for thread in reversed(new) for each in missed if int(each) in thread.messages
    ]
    assert len([each for each in world.wire if "archived" in each]) == 3
    assert not any(f"/channels/{each.id}/" in asked for each in old for asked in world.wire)


async def test_a_thread_that_wakes_while_gaps_are_read_is_read_from_where_it_was(desk: Desk) -> None:
    """It is not among those that stand, as the server tells of them, and no more among the archived ones."""
    world = desk.world
    thread = world.open_thread(world.channel, world.fresh(), "coder0")
    async with desk.open():
        pass
    missed = world.say("while you were away", place=thread)
    thread.archived = True
    later: list[str] = []

    def wake(request: str) -> None:
        if "/threads/archived/" in request and not later:
            later.append(world.say("you are back", place=thread))

    world.on_arrival = wake
    async with desk.open():
        await desk.office.until_state(f"re {later[0]}", "sent")
    assert [event for event, *_ in await arrived(desk)] == [missed, *later]


def test_a_cursor_of_an_earlier_version_is_understood_and_keeps_its_place() -> None:
    found = ReadCursor.decode('{"floor": 5, "marks": {"7": 9}, "direct": ["3"]}')
    assert found == ReadCursor(floor=5, marks={"7": 9}, direct={"3": 5})
    assert ReadCursor.decode('{"floor": 5, "marks": {"3": 9}, "direct": ["3"]}') == ReadCursor(floor=5, direct={"3": 9})
    assert ReadCursor.decode(found.encode()) == found


def test_neither_the_server_nor_a_direct_conversation_says_how_far_the_other_was_read() -> None:
    late = 86_400_000 << 22
    found = ReadCursor(floor=5, direct={"3": 7})
    assert found.read("8", late).settled().of("3") == 7
    assert found.read("3", late).settled().of("8") == 5
