"""Rooms by name, rooms that are replaced, and which of them count."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.contract.connector_protocol import MessageRefused, TryLater
from connectors.contract.messages import Message, OpenThread
from connectors.matrix.room_aliases import LOOK_AGAIN
from tests.connectors.matrix.conftest import Bot, healthy
from tests.connectors.matrix.test_connector import joined, room_with
from tests.operator_client import Operator
from tests.synapse import SERVER_NAME, Account, Synapse

pytestmark = pytest.mark.synapse


@pytest.fixture
async def ana(synapse: Synapse) -> AsyncIterator[Operator]:
    async with Operator(await synapse.register(prefix="ana")) as operator:
        yield operator


@pytest.fixture
async def account(synapse: Synapse) -> Account:
    return await synapse.register(prefix="bot")


@pytest.fixture
def alias() -> str:
    return f"#fleet-{secrets.token_hex(4)}:{SERVER_NAME}"


def opened(title: str) -> OpenThread:
    return OpenThread(title=title, message=Message(text=title))


async def test_the_fleet_stays_where_its_alias_led_at_first(
    ana: Operator, account: Account, alias: str, tmp_path: Path
) -> None:
    bot = Bot(account, tmp_path / "bot", fleet_rooms=[alias])
    room = await ana.create_room(invite=[bot.user_id])
    await ana.set_alias(room, alias)
    async with bot.running():
        await joined(ana, room, bot)
        thread = await bot.say(alias, opened("coder0"), key="1")
        assert thread.conversation == f"{room}|{thread.event_id}"
        await bot.supervisor.got(await ana.say(room, "hello"))

    elsewhere = await ana.create_room(invite=[bot.user_id])
    await ana.set_alias(elsewhere, alias)
    async with bot.running() as connector:
        await joined(ana, elsewhere, bot)
        await healthy(connector, lambda health: f"{alias} leads to {elsewhere} now" in health.detail)
        assert not (await connector.health()).impaired
        thread = await bot.say(alias, opened("coder1"), key="2")
        assert thread.conversation == f"{room}|{thread.event_id}"
        assert await bot.find(alias, opened("coder1"), key="2") == thread

        # Led back, there is nothing to tell.
        await ana.set_alias(room, alias)
        bot.later += LOOK_AGAIN + 60
        await bot.supervisor.got(await ana.say(room, "hello again"))
        await healthy(connector, lambda health: alias not in health.detail)


async def test_an_alias_that_leads_nowhere_is_told_and_waited_for(
    ana: Operator, account: Account, alias: str, tmp_path: Path
) -> None:
    bot = Bot(account, tmp_path / "bot", fleet_rooms=[alias])
    async with bot.running() as connector:
        await healthy(connector, lambda health: "write its id instead" in health.detail and health.impaired)
        with pytest.raises(TryLater, match="leads to no room"):
            await bot.say(alias, "hello", key="1")
        room = await room_with(ana, bot)
        await ana.set_alias(room, alias)
        bot.later += 60
        sent = await bot.say(alias, "hello", key="1")
        await ana.wait_for(room, lambda event: event["event_id"] == sent.event_id)
        health = await connector.health()
        assert (alias in health.detail, health.impaired) == (False, False)


async def test_only_the_rooms_that_are_named_count_and_the_main_one(
    ana: Operator, account: Account, alias: str, tmp_path: Path
) -> None:
    main, named = await ana.create_room(), await ana.create_room()
    await ana.set_alias(named, alias)
    bot = Bot(account, tmp_path / "bot", fleet_rooms=[main], rooms=[alias])
    other = await ana.create_room(invite=[bot.user_id])
    async with bot.running() as connector:
        for room in (main, named):
            await ana.invite(room, bot.user_id)
            await joined(ana, room, bot)
            await bot.supervisor.got(await ana.say(room, f"in {room}"))
        await healthy(connector, lambda health: f"An invitation to {other} by {ana.user_id} was left" in health.detail)
        assert await ana.membership(other, bot.user_id) == "invite"


async def test_fleets_that_share_a_user_hear_their_own_rooms_alone(
    ana: Operator, synapse: Synapse, account: Account, tmp_path: Path
) -> None:
    bots, rooms = [], [await ana.create_room(), await ana.create_room()]
    for room in rooms:
        log_in = await synapse.log_in(account)
        bots.append(Bot(log_in, tmp_path / log_in.device_id, fleet_rooms=[room], rooms=[room]))
    first, second = bots
    async with first.running(), second.running():
        for room in rooms:
            await ana.invite(room, account.user_id)
            await joined(ana, room, first)
        # The same key is another message of each, since each has a device of its own.
        sent = [await bot.say(room, "ready", key="same") for bot, room in zip(bots, rooms, strict=True)]
        assert sent[0] != sent[1]
        for bot, room in zip(bots, rooms, strict=True):
            await bot.supervisor.got(await ana.say(room, f"in {room}"))
        last = [await ana.say(room, "last") for room in rooms]
        for bot, event in zip(bots, last, strict=True):
            await bot.supervisor.got(event)
    assert [bot.supervisor.texts for bot in bots] == [[f"in {room}", "last"] for room in rooms]


@pytest.mark.parametrize("while_away", [False, True])
async def test_a_room_that_is_replaced_is_told_and_takes_nothing_more(
    ana: Operator, account: Account, tmp_path: Path, while_away: bool
) -> None:
    room = await ana.create_room()
    bot = Bot(account, tmp_path / "bot", fleet_rooms=[room])
    async with bot.running() as connector:
        await ana.invite(room, bot.user_id)
        await joined(ana, room, bot)
        new = "" if while_away else await ana.upgrade(room, "11")
        if new:
            await healthy(connector, lambda health: f"{room} was replaced by {new}" in health.detail)
    if while_away:
        new = await ana.upgrade(room, "11")
    async with bot.running() as connector:
        await healthy(connector, lambda health: f"{room} was replaced by {new}" in health.detail and health.impaired)
        with pytest.raises(MessageRefused, match=f"replaced by {new}"):
            await bot.say(room, "hello", key="1")
