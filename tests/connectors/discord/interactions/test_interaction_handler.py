"""Interactions as a whole: acknowledged at once and counted once, or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from connectors.contract.messages import CommandReading, Inbound, Message, OpenThread, Reaction, Text
from connectors.discord.interactions import open_interactions
from connectors.discord.interactions.interaction_handler import heard
from connectors.discord.interactions.open_interactions import Interaction, OpenInteractions
from tests.connectors.delivery.fake_room import STEP
from tests.connectors.discord.conftest import Desk


async def posted(desk: Desk) -> str:
    """A message of ours under which there could be a button."""
    await desk.office.put("asked", Message(text="may I?"), to=desk.room)
    event_id = (await desk.office.until_state("asked", "sent")).event_id
    assert event_id is not None
    return event_id


async def test_a_button_is_acknowledged_and_counts_once_though_it_is_told_twice(desk: Desk) -> None:
    desk.world.ana.roles = [77]
    async with desk.open():
        message = await posted(desk)
        number = desk.world.click(message, "muster:✅")
        desk.world.repeat("INTERACTION_CREATE")
        await desk.world.until(lambda: desk.office.handled)
        desk.world.repeat("INTERACTION_CREATE")
        last = desk.world.say("last")
        await desk.office.until_state(f"re {last}", "sent")
    assert desk.world.callbacks == {number: {"type": 6}}
    assert sum(f"/interactions/{number}/" in each for each in desk.world.wire) == 1
    pressed, _ = await desk.arrived()
    assert (pressed.event_id, pressed.body) == (number, Reaction(target=message, key="✅", pressed=True))
    assert (pressed.sender, pressed.groups) == (str(desk.world.ana.id), ("role:77",))


async def test_a_button_in_a_thread_that_was_not_heard_of_comes_from_there(desk: Desk) -> None:
    async with desk.open():
        await desk.office.put("open", OpenThread(title="coder0", message=Message(text="up")), to=desk.room)
        await desk.office.until_state("open", "sent")
    (thread,) = desk.world.threads()
    thread.archived = True
    async with desk.open():
        message = str(desk.world.create(thread, desk.world.bot, {"content": "may I?"})["id"])
        desk.world.click(message, "muster:✅")
        await desk.world.until(lambda: desk.office.handled)
    (found,) = await desk.arrived()
    assert (found.conversation, found.parent) == (str(thread.id), desk.room)


async def test_it_is_acknowledged_while_the_register_is_slow(desk: Desk) -> None:
    async with desk.open():
        message = await posted(desk)
        async with desk.office.store.write(STEP):
            number = desk.world.click(message, "muster:✅")
            await desk.world.until(lambda: number in desk.world.callbacks)
            assert desk.office.handled == []
        await desk.world.until(lambda: desk.office.handled)


async def test_an_acknowledgement_whose_answer_is_lost_is_given_again_and_counts_once(desk: Desk) -> None:
    desk.world.lose_callbacks = 1
    async with desk.open():
        number = desk.world.click(await posted(desk), "muster:✅")
        await desk.world.until(lambda: desk.office.handled)
    assert desk.office.handled == [number]
    assert sum(f"/interactions/{number}/" in each for each in desk.world.wire) == 2


@pytest.mark.parametrize("why", ["too late", "taken by another"])
async def test_what_discord_does_not_take_does_not_count(desk: Desk, why: str) -> None:
    async def meanwhile() -> None:
        for number, (place, at) in list(desk.world.interactions.items()):
            if why == "too late":
                desk.world.interactions[number] = (place, at - 4)
            else:
                desk.world.callbacks[number] = {"type": 6}

    desk.world.on_callback = meanwhile
    async with desk.open():
        number = desk.world.click(await posted(desk), "muster:✅")
        await desk.world.until(lambda: any(number in each for each in desk.world.wire))
        last = desk.world.say("last")
        await desk.office.until_state(f"re {last}", "sent")
    assert [each.event_id for each in await desk.arrived()] == [last]
    assert list(OpenInteractions(desk.folder / open_interactions.FILE).waiting()) == []


async def test_what_a_crash_kept_from_the_inbox_comes_after_the_next_start(desk: Desk) -> None:
    """One was acknowledged, of one that is not known, one never was, and one is so old that Discord said it failed."""
    world = desk.world
    async with desk.open():
        message = await posted(desk)
    desk.folder.mkdir(exist_ok=True)
    kept = OpenInteractions(desk.folder / open_interactions.FILE)
    numbers = [world.click(message, "muster:✅") for _ in range(3)]
    numbers.append("123456789012345678")
    world.callbacks |= {number: {"type": 6} for number in numbers[:2]}
    world.interactions[numbers[2]] = (world.channel.id, -1e9)
    for number in numbers:
        inbound = Inbound(
            connector="discord",
            event_id=number,
            conversation=desk.room,
            sender=str(world.ana.id),
            sent_at=1.0,
            body=Reaction(target=message, key="✅", pressed=True),
            groups=("role:7",),
        )
        at = 1.0 if number == numbers[3] else asyncio.get_running_loop().time() + 4e9
        token, application = f"token-{number}", str(world.bot.id)
        await kept.add(Interaction(id=number, token=token, application=application, kind=3, at=at, inbound=inbound))
    await kept.change(numbers[0], acknowledged=True)
    await kept.change(numbers[3], acknowledged=True)
    async with desk.open():
        await world.until(lambda: len(desk.office.handled) == 2)
        last = world.say("last")
        await desk.office.until_state(f"re {last}", "sent")
    found = await desk.arrived()
    assert [each.event_id for each in found] == [*numbers[:2], last]
    assert found[0].groups == ("role:7",)
    assert list(OpenInteractions(desk.folder / open_interactions.FILE).waiting()) == []


async def test_those_of_other_servers_and_channels_are_not_ours(desk: Desk) -> None:
    world = desk.world
    other = world.add(type(world.channel)(id=world.fresh(), type=0, name="other"))
    async with desk.open():
        message = str(world.create(other, world.bot, {"content": "may I?"})["id"])
        elsewhere = world.click(message, "muster:✅")
        ours, world.guild = world.guild, 1
        abroad = world.click(await posted(desk), "muster:✅")
        world.guild = ours
        await world.until(lambda: elsewhere in world.asides)
        last = world.say("last")
        await desk.office.until_state(f"re {last}", "sent")
    assert world.asides[elsewhere] == [f"I work in <#{desk.room}> and its threads, and in direct messages."]
    assert abroad not in world.callbacks
    assert [each.event_id for each in await desk.arrived()] == [last]


# --- pure --------------------------------------------------------------------------------------------------------

EVENT = {
    "id": "1000000000000000001",
    "application_id": "1000000000000000002",
    "type": 2,
    "token": "t",
    "channel_id": "1000000000000000003",
    "guild_id": "1000000000000000004",
    "member": {"user": {"id": "1000000000000000005"}, "roles": ["1000000000000000006"]},
}


@pytest.mark.parametrize("key", [*EVENT, "member.user", "member.roles", "channel", "data", "message"])
@pytest.mark.parametrize("value", [None, 1, "x", [], {}, {"user": []}, "\ud800", True])
def test_anything_may_stand_anywhere(key: str, value: object) -> None:
    event: dict[str, object] = dict(EVENT)
    first, _, second = key.partition(".")
    event[first] = {**EVENT["member"], second: value} if second else value  # type: ignore[dict-item]
    found = heard(event, EVENT["guild_id"])  # type: ignore[arg-type]
    assert found is None or (found.sender == "1000000000000000005" and isinstance(found.data, dict))


async def test_what_is_kept_survives_lines_that_were_cut_off_and_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "interactions"
    about = {"token": "t", "application": "1", "kind": 2, "at": 1.0}
    body = Text(text="kill x", reading=CommandReading.COMMAND)
    inbound = Inbound(connector="d", event_id="7", conversation="c", sender="1", sent_at=1.0, body=body, groups=("a",))
    kept = OpenInteractions(path)
    await kept.add(Interaction(id="7", **about, inbound=inbound))  # type: ignore[arg-type]
    with path.open("a") as file:
        file.write('{"id": "8", "tok')
    kept = OpenInteractions(path)
    await kept.change("7", acknowledged=True)
    again = OpenInteractions(path).get("7")
    assert again == Interaction(id="7", **about, inbound=inbound, acknowledged=True)  # type: ignore[arg-type]
    for number in range(8_100):
        await kept.add(Interaction(id=str(number + 100), **about, inbound=None))  # type: ignore[arg-type]
    assert OpenInteractions(path).get("7") is None
    assert len(path.read_text().splitlines()) < 8_100
    assert path.stat().st_mode & 0o777 == 0o600


async def test_what_discord_py_cannot_read_does_not_end_the_session(desk: Desk) -> None:
    world = desk.world
    async with desk.open():
        odd = {"channel_id": desk.room, "guild_id": str(world.guild), "id": "1", "author": {}, "mentions": []}
        for event in ("INTERACTION_CREATE", "MESSAGE_UPDATE", "MESSAGE_CREATE", "THREAD_UPDATE"):
            world.dispatch(event, odd | {"interaction_metadata": {}}, 0)
        said = world.say("still there?")
        await desk.office.until_state(f"re {said}", "sent")
    assert world.identifies == 1
