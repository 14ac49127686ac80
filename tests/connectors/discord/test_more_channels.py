"""A bot that hears more channels than the fleet's: rooms of projects, and forums, whose posts are threads."""

from __future__ import annotations

import pytest

from connectors.contract.connector_protocol import MessageRefused
from connectors.contract.messages import Message, OpenThread
from tests.connectors.discord.conftest import Desk
from tests.connectors.discord.fake_server_state import FORUM, PUBLIC_THREAD, TEXT, Place
from tests.connectors.discord.test_connector import arrived


async def test_what_is_said_in_another_channel_counts_from_the_time_on_that_it_is_heard(desk: Desk) -> None:
    world = desk.world
    async with desk.open():
        first = world.say("hello")
        await desk.office.until_state(f"re {first}", "sent")
    web = world.add(Place(id=world.fresh(), type=TEXT, name="web"))
    world.say("!stop, as people say here", place=web)
    async with desk.open(channels=[str(web.id)]):
        heard = world.say("mend it", place=web)
        await desk.office.until_state(f"re {heard}", "sent")
    world.pass_minutes(1)
    missed = world.say("while away", place=web)
    async with desk.open(channels=[str(web.id)]):
        await desk.office.until_state(f"re {missed}", "sent")
        await desk.office.put("open", OpenThread(title="web-1", message=Message(text="it begins")), to=str(web.id))
        await desk.office.until_state("open", "sent")
        (thread,) = world.threads()
        assert thread.parent == web.id
        below = world.say("and more", place=thread)
        await desk.office.until_state(f"re {below}", "sent")
    assert [event for event, *_ in await arrived(desk)] == [first, heard, missed, below]
    assert (await desk.arrived())[-1].parent == str(web.id)


async def test_a_post_in_a_forum_is_a_thread_of_it(desk: Desk) -> None:
    world = desk.world
    forum = world.add(Place(id=world.fresh(), type=FORUM, name="web"))
    async with desk.open(channels=[str(forum.id)]):
        post = world.add(Place(id=world.fresh(), type=PUBLIC_THREAD, name="the menu", parent=forum.id))
        said = world.say("the menu does not close", place=post)
        await desk.office.until_state(f"re {said}", "sent")
    (found,) = await desk.arrived()
    assert (found.conversation, found.parent) == (str(post.id), str(forum.id))


async def test_a_channel_is_made_once_in_the_category_of_the_fleet_and_heard(desk: Desk) -> None:
    world = desk.world
    world.channel.category = world.fresh()
    made = desk.connector()
    async with desk.office.open({"discord": made}):
        await made.connected()
        room = await made.make_room("web", key="web-1a2b", beside=desk.room, people=[], owners=[])
        assert await made.make_room("web", key="web-1a2b", beside=desk.room, people=[], owners=[]) == room
        place = world.places[int(room)]
        assert (place.name, place.category) == ("web", world.channel.category)
        said = world.say("mend it", place=place)
        await desk.office.until_state(f"re {said}", "sent")
        world.may_make_channels = False
        with pytest.raises(MessageRefused, match="Manage Channels"):
            await made.make_room("api", key="api-3c4d", beside=desk.room, people=[], owners=[])


async def test_a_channel_is_heard_from_the_time_on_that_the_connector_is_told_of_it(desk: Desk) -> None:
    world = desk.world
    web = world.add(Place(id=world.fresh(), type=TEXT, name="web"))
    post = world.add(Place(id=world.fresh(), type=PUBLIC_THREAD, name="a thread", parent=world.channel.id))
    made = desk.connector()
    async with desk.office.open({"discord": made}):
        await made.connected()
        world.say("not yet", place=web)
        first = world.say("hello")
        await desk.office.until_state(f"re {first}", "sent")
        await made.hear_room(str(web.id))
        await made.hear_room(str(web.id))
        said = world.say("mend it", place=web)
        await desk.office.until_state(f"re {said}", "sent")
        with pytest.raises(MessageRefused, match="no channel or forum of the server"):
            await made.hear_room(str(post.id))
        for unknown in (str(world.fresh()), "general"):
            with pytest.raises(MessageRefused, match=f"{unknown}"):
                await made.hear_room(unknown)
    assert [event for event, *_ in await arrived(desk)] == [first, said]
