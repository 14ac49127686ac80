"""The connector on a homeserver that behaves as Conduit does: nothing that was said is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from connectors.matrix import sync_loop
from tests.conduit.conftest import ANA, BOT
from tests.conduit.fake_homeserver import TIMELINE, StandIn
from tests.connectors.matrix.conftest import Bot
from tests.synapse import Account

BURST = 50


@pytest.fixture
def room(homeserver: StandIn) -> str:
    """Made by ana, who is in it with the bot."""
    for name in ("ana", "muster"):
        homeserver.add_user(name, "password")
    room = "!room:conduit.test"
    homeserver.say(room, ANA, "m.room.create", {"creator": ANA}, state_key="")
    for user in (ANA, BOT):
        homeserver.say(room, user, "m.room.member", {"membership": "join"}, state_key=user)
    homeserver.say(room, ANA, "m.room.power_levels", {"users": {ANA: 100}}, state_key="")
    return room


@pytest.fixture
def bot(homeserver: StandIn, room: str, tmp_path: Path) -> Bot:
    token = homeserver.log_in(BOT, "MUSTER")
    account = Account(homeserver=homeserver.url, user_id=BOT, password="", access_token=token, device_id="MUSTER")
    return Bot(account, tmp_path / "bot")


def burst(homeserver: StandIn, room: str, begin: int, *, noise: bool = False) -> None:
    """Ana says fifty things at once, among what else happens in a room."""
    for number in range(begin, begin + BURST):
        homeserver.say(room, ANA, "m.room.message", {"msgtype": "m.text", "body": f"number {number}"})
        if noise:
            homeserver.say(room, ANA, "m.room.topic", {"topic": "t"}, state_key="")
            homeserver.say(room, ANA, "m.receipt", {})


async def heard(bot: Bot, last: int) -> None:
    """The bot has all up to this one, in their order and each once."""
    await bot.supervisor.until(lambda: f"number {last}" in bot.supervisor.texts)
    assert bot.supervisor.texts == [f"number {number}" for number in range(last + 1)]


async def test_bursts_between_two_syncs_lose_nothing(homeserver: StandIn, bot: Bot, room: str) -> None:
    async with bot.running():
        for turn in range(3):
            burst(homeserver, room, turn * BURST, noise=True)
            await homeserver.hurry()
            await heard(bot, (turn + 1) * BURST - 1)
    pages = [request for request in homeserver.requests if request.endswith("/messages")]
    assert BURST > TIMELINE
    assert pages, "what did not fit into a timeline came from the room's history"


async def test_what_is_said_while_the_bot_is_down_is_heard(homeserver: StandIn, bot: Bot, room: str) -> None:
    async with bot.running():
        pass
    burst(homeserver, room, 0)
    burst(homeserver, room, BURST)
    async with bot.running():
        await heard(bot, 2 * BURST - 1)


async def test_bursts_in_two_rooms_at_once_lose_nothing(homeserver: StandIn, bot: Bot, room: str) -> None:
    other = "!other:conduit.test"
    homeserver.say(other, ANA, "m.room.create", {"creator": ANA}, state_key="")
    for user in (ANA, BOT):
        homeserver.say(other, user, "m.room.member", {"membership": "join"}, state_key=user)
    async with bot.running():
        for number in range(BURST):
            for place in (room, other):
                homeserver.say(place, ANA, "m.room.message", {"msgtype": "m.text", "body": f"{number} in {place}"})
        await homeserver.hurry()
        wanted = {f"{number} in {place}" for number in range(BURST) for place in (room, other)}
        await bot.supervisor.until(lambda: set(bot.supervisor.texts) == wanted)
    for place in (room, other):
        here = [text for text in bot.supervisor.texts if text.endswith(place)]
        assert here == [f"{number} in {place}" for number in range(BURST)]


async def test_a_gap_whose_history_fails_once_is_read_again(
    homeserver: StandIn, bot: Bot, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_loop, "pause", lambda failures, asked, random: 0.0)
    failed: list[str] = []

    def is_lost(request: web.Request) -> bool:
        if not request.path.endswith("/messages") or len(failed) == 2:
            return False
        failed.append(request.path)
        return True

    homeserver.lost = is_lost
    async with bot.running():
        burst(homeserver, room, 0)
        await homeserver.hurry()
        await heard(bot, BURST - 1)
    assert len(failed) == 2


async def test_a_homeserver_that_was_restored_is_heard_from_the_first_look_on(
    homeserver: StandIn, bot: Bot, room: str
) -> None:
    homeserver.poll = 0.05
    async with bot.running():
        before = len(homeserver.events)
        burst(homeserver, room, 0)
        await homeserver.hurry()
        await heard(bot, BURST - 1)
        del homeserver.events[before:]
        await bot.supervisor.until(lambda: f'"since": "{before}"' in (bot.supervisor.cursor or ""))
        burst(homeserver, room, BURST)
        await homeserver.hurry()
        await heard(bot, 2 * BURST - 1)


async def test_our_own_burst_stands_once_and_is_not_heard(homeserver: StandIn, bot: Bot, room: str) -> None:
    async with bot.running():
        for number in range(BURST):
            await bot.say(room, f"answer {number}", key=f"key {number}")
        await bot.say(room, "answer 0", key="key 0")
        burst(homeserver, room, 0)
        await homeserver.hurry()
        await heard(bot, BURST - 1)
    ours = [
        event["content"]["body"]
        for _, event in homeserver.events
        if event["sender"] == BOT and "msgtype" in event["content"]
    ]
    assert ours == [f"answer {number}" for number in range(BURST)]


async def test_a_poll_asks_for_no_longer_than_conduit_holds_one(homeserver: StandIn, bot: Bot, room: str) -> None:
    homeserver.poll = 0.01
    async with bot.running():
        # A poll that ends without news is followed by the next, and what comes then is heard.
        while homeserver.polls.count(0.01) < 3:
            await asyncio.sleep(0)
        burst(homeserver, room, 0)
        await heard(bot, BURST - 1)
    assert max(homeserver.polls) <= sync_loop.LONG_POLL <= 30.0
