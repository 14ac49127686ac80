"""Direct conversations on a fake Discord, in which strangers write, too."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import select

from connectors.contract.connector_protocol import NotReady
from connectors.contract.messages import Edit, Text
from connectors.delivery.inbox import Arrival
from connectors.discord import member_roles, pending_direct_messages, read_cursor
from database.schema import inbox
from tests.connectors.discord.conftest import Desk
from tests.connectors.discord.fake_server_state import World
from tests.connectors.discord.test_connector import arrived

ROLE = 77


def raid(world: World, strangers: int) -> list[str]:
    """So many strangers write to the bot, of whose roles it has heard nothing."""
    people = [world.person(f"stranger {number}") for number in range(strangers)]
    return [world.say("hi", place=world.direct(each), by=each) for each in people]


def spent(world: World, seconds: float) -> None:
    """Of each kind of request Discord takes one in so many seconds."""
    world.allowance |= {"X-RateLimit-Limit": "1", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": str(seconds)}


async def test_strangers_who_write_in_private_hold_up_neither_the_server_nor_people_with_a_name(desk: Desk) -> None:
    world = desk.world

    async def may_read(person: str, groups: Sequence[str]) -> bool:
        return person == str(world.ana.id)

    async with desk.open(may_read=may_read):
        spent(world, 3_000)
        strangers = raid(world, 3)
        await world.until(lambda: strangers[0] in desk.office.handled)
        in_room, in_private = world.say("stop"), world.say("stop all", place=world.direct(world.ana))
        await world.until(lambda: {in_room, in_private} <= set(desk.office.handled))
        assert not set(strangers[1:]) & set(desk.office.handled)


async def test_what_waits_for_somebodys_roles_is_taken_once_in_its_order_and_with_them(desk: Desk) -> None:
    world = desk.world
    otto = world.person("otto", roles=[ROLE])
    direct = world.direct(otto)
    async with desk.open():
        spent(world, 0.5)
        raid(world, 2)
        one = world.say("one", place=direct, by=otto)
        world.repeat("MESSAGE_CREATE")
        world.edit(one, "one, or so")
        two = world.say("two", place=direct, by=otto)
        world.drop()
        three = world.say("three", place=direct, by=otto)
        await desk.office.until_state(f"re {three}", "sent")
    async with desk.office.store.read() as tx:
        rows = await tx.execute(select(inbox).where(inbox.c.conversation == str(direct.id)).order_by(inbox.c.seq))
        found = [each.inbound for each in map(Arrival.from_row, rows)]
    assert [each.body for each in found] == [
        Text(text="one"),
        Edit(target=one, text="one, or so"),
        Text(text="two"),
        Text(text="three"),
    ]
    assert {each.groups for each in found} == {(f"role:{ROLE}",)}
    assert [each.event_id for each in found if isinstance(each.body, Text)] == [one, two, three]


async def test_where_discord_does_not_answer_for_somebodys_roles_the_bot_stays_and_asks_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_direct_messages, "FIRST_PAUSE", 0.01)
    world = desk.world
    asked = member_roles.Roles.of
    failures = [NotReady("no answer"), NotReady("again none")]

    async def of(self: member_roles.Roles, person: str, event: dict[str, object]) -> tuple[str, ...]:
        if failures:
            raise failures.pop()
        return await asked(self, person, event)

    async with desk.open():
        monkeypatch.setattr(member_roles.Roles, "of", of)
        said = world.say("hello", place=world.direct(world.ana))
        await desk.office.until_state(f"re {said}", "sent")
    assert (world.identifies, failures) == (1, [])


async def test_strangers_push_no_operators_direct_conversation_out_of_what_is_read_afterwards(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_cursor, "MOST_DIRECT", 2)
    world = desk.world
    otto = world.person("otto", roles=[ROLE])

    async def may_read(person: str, groups: Sequence[str]) -> bool:
        return person == str(world.ana.id) or f"role:{ROLE}" in groups

    async with desk.open(may_read=may_read):
        for each in (world.ana, otto):
            await desk.office.until_state(f"re {world.say('hello', place=world.direct(each), by=each)}", "sent")
        for stranger in raid(world, 3):
            await desk.office.until_state(f"re {stranger}", "sent")
    missed = [world.say("while away", place=world.direct(each), by=each) for each in (world.ana, otto)]
    async with desk.open(may_read=may_read):
        for said in missed:
            await desk.office.until_state(f"re {said}", "sent")
    assert [event for event, *_ in await arrived(desk)][-2:] == missed


async def test_where_too_much_waits_whoever_comes_counts_as_somebody_without_roles(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_direct_messages, "MOST", 2)
    world = desk.world
    async with desk.open():
        spent(world, 3_000)
        strangers = raid(world, 4)
        await world.until(lambda: {strangers[0], *strangers[2:]} <= set(desk.office.handled))
        assert strangers[1] not in desk.office.handled
