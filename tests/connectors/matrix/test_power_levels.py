"""Who may command because of what they have been given in the fleet's room."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connectors.matrix.power_levels import CREATOR, Levels, PowerLevels, read
from connectors.matrix.room_cache import Rooms
from tests.conduit.conftest import ANA, BOT
from tests.conduit.fake_homeserver import SERVER, TIMELINE, StandIn
from tests.connectors.matrix.conftest import Bot, healthy
from tests.connectors.matrix.test_connector import joined
from tests.operator_client import Operator
from tests.synapse import Account, Synapse

ROOM, OTHER = f"!fleet:{SERVER}", f"!hers:{SERVER}"
EVE, FAR = f"@eve:{SERVER}", "@mal:evil.test"
STEPS: dict[str, Any] = {"operator": 50, "admin": 100}
ADMIN, MODERATOR, NOBODY = ("level:50", "level:100"), ("level:50",), ()


# --- what is decided ---------------------------------------------------------------------------------------------


def created(version: object, sender: str = ANA, **more: Any) -> dict[str, Any]:
    return {"type": "m.room.create", "sender": sender, "content": {"room_version": version, **more}}


def test_only_levels_that_somebody_was_given_by_name_count() -> None:
    levels = read({"users": {ANA: 100, EVE: 0}, "users_default": 100}, created("10"))
    assert (levels.of(ANA), levels.of(EVE), levels.of(FAR)) == (100, 0, 0)
    assert levels.default == 100


@pytest.mark.parametrize("level", ["many", "", 99.5, True, None, [100], {"a": 1}, "1e3", -5, "-100"])
def test_what_is_no_level_is_none(level: object) -> None:
    assert read({"users": {ANA: level}, "users_default": level}, created("6")).of(ANA) == 0


@pytest.mark.parametrize("level", ["100", " 100 ", "+100", 100])
def test_older_rooms_write_levels_as_texts(level: object) -> None:
    assert read({"users": {ANA: level}}, created("6")).of(ANA) == 100


@pytest.mark.parametrize("power", [[], "x", {"users": []}, {"users": {"ana": 100}}, {"users": None}])
def test_what_is_no_event_gives_nobody_anything(power: Any) -> None:
    assert read(power, created("10")).users == {}


def test_creators_outrank_everybody_from_version_12_on() -> None:
    levels = read({"users": {EVE: 2**53 - 1}}, created("12", additional_creators=[FAR, 5]))
    assert levels.of(ANA) == levels.of(FAR) == CREATOR > levels.of(EVE)
    assert read({"users": {}}, created("11", additional_creators=[FAR])).users == {}
    for version in ("org.example.12", None, 12, "\u0661\u0662"):
        assert read({"users": {}}, created(version)).users == {}
    assert read({}, {"content": {"room_version": "12"}}).users == {}, "who began it was not told"


def test_a_room_without_levels_is_its_creators() -> None:
    assert read(None, created("10", creator=ANA)).users == {ANA: 100}
    assert read(None, {"content": {"creator": ANA}}).users == {ANA: 100}


def test_of_very_many_the_highest_are_kept() -> None:
    many = {f"@user{number}:{SERVER}": 1 + number for number in range(5_000)}
    levels = read({"users": many}, created("10"))
    assert levels.of(f"@user4999:{SERVER}") == 5_000
    assert len(levels.users) < 1_000


def test_the_lower_of_two() -> None:
    assert Levels({ANA: 100, EVE: 50}).lower(Levels({ANA: 50, FAR: 100})).users == {ANA: 50}


# --- in rooms ----------------------------------------------------------------------------------------------------


@pytest.fixture
def fleet(homeserver: StandIn) -> StandIn:
    """Ana made the fleet's room; eve is in it, has a room of her own, and the bot is in both."""
    homeserver.poll = 0.05
    for name in ("ana", "eve", "muster"):
        homeserver.add_user(name, "password")
    for room, creator in ((ROOM, ANA), (OTHER, EVE)):
        homeserver.say(room, creator, "m.room.create", {"creator": creator, "room_version": "10"}, state_key="")
        for user in (ANA, EVE, BOT):
            homeserver.say(room, user, "m.room.member", {"membership": "join"}, state_key=user)
        power(homeserver, {creator: 100}, room=room)
    return homeserver


@pytest.fixture
async def homeserver() -> AsyncIterator[StandIn]:
    server = StandIn()
    async with server.running():
        yield server


@pytest.fixture
def bot(fleet: StandIn, tmp_path: Path) -> Bot:
    token = fleet.log_in(BOT, "MUSTER")
    account = Account(homeserver=fleet.url, user_id=BOT, password="", access_token=token, device_id="MUSTER")
    return Bot(account, tmp_path / "bot", fleet_rooms=[ROOM], power_levels=STEPS)


def power(fleet: StandIn, users: dict[str, int], *, room: str = ROOM, sender: str = ANA, **more: Any) -> None:
    fleet.say(room, sender, "m.room.power_levels", {"users": users, **more}, state_key="")


def say(fleet: StandIn, sender: str, text: str, *, room: str = ROOM) -> str:
    return fleet.say(room, sender, "m.room.message", {"msgtype": "m.text", "body": text})


def much(fleet: StandIn) -> None:
    """So much that it does not fit into a timeline."""
    for number in range(TIMELINE):
        say(fleet, ANA, f"noise {number}")


async def groups(bot: Bot, event_id: str) -> tuple[str, ...]:
    return (await bot.supervisor.got(event_id)).groups


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("gap", [False, True])
async def test_what_counts_is_the_level_at_the_time(fleet: StandIn, bot: Bot, away: bool, gap: bool) -> None:
    async def said() -> list[str]:
        found = [say(fleet, EVE, "before")]
        power(fleet, {ANA: 100, EVE: 50})
        found.append(say(fleet, EVE, "as an operator"))
        power(fleet, {ANA: 100, EVE: 100})
        found.append(say(fleet, EVE, "as an admin"))
        power(fleet, {ANA: 100})
        found.append(say(fleet, EVE, "after"))
        if gap:
            much(fleet)
        await fleet.hurry()
        return found

    async with bot.running():
        assert await groups(bot, say(fleet, ANA, "hello")) == ADMIN
        events = [] if away else await said()
        for event in events:
            await bot.supervisor.got(event)
    events = events or await said()
    async with bot.running():
        found = [await groups(bot, event) for event in events]
    assert found == [NOBODY, MODERATOR, ADMIN, NOBODY]


def once(fleet: StandIn, path: str, happens: Callable[[], None], *, after: int = 0) -> None:
    """Something happens just before a request is answered, the first one or one after it."""
    seen: list[str] = []

    def fault(request: web.Request) -> None:
        if request.path.endswith(path):
            seen.append(request.path)
            if len(seen) == after + 1:
                happens()

    fleet.faults = fault


@pytest.mark.parametrize("first", [False, True])
async def test_what_changes_while_it_starts_comes_in_its_turn(fleet: StandIn, bot: Bot, first: bool) -> None:
    said: list[str] = []

    def happens() -> None:
        said.append(say(fleet, ANA, "hello"))
        said.append(say(fleet, EVE, "before"))
        power(fleet, {ANA: 100, EVE: 50})

    if not first:
        async with bot.running():
            await bot.supervisor.got(say(fleet, ANA, "hello"))
    # What the very first sync brings does not count.
    once(fleet, "/sync", happens, after=1 if first else 0)
    async with bot.running():
        await bot.supervisor.until(lambda: "before" in bot.supervisor.texts)
        assert [await groups(bot, event) for event in said] == [ADMIN, NOBODY]
        assert await groups(bot, say(fleet, EVE, "after")) == MODERATOR


@pytest.mark.parametrize("late", [False, True])
async def test_what_changes_while_it_joins_comes_in_its_turn(fleet: StandIn, bot: Bot, late: bool) -> None:
    async with bot.running():
        await bot.supervisor.got(say(fleet, ANA, "hello"))
        fleet.say(ROOM, ANA, "m.room.member", {"membership": "leave"}, state_key=BOT)
        await bot.supervisor.until(lambda: f'"rooms": ["{OTHER}"]' in (bot.supervisor.cursor or ""))
        if late:
            once(fleet, "/state/m.room.power_levels/", lambda: power(fleet, {ANA: 100, EVE: 50}))
        fleet.say(ROOM, ANA, "m.room.member", {"membership": "join"}, state_key=BOT)
        before = say(fleet, EVE, "before")
        if not late:
            power(fleet, {ANA: 100, EVE: 50})
        assert await groups(bot, before) == NOBODY
        assert await groups(bot, say(fleet, EVE, "after")) == MODERATOR
        assert await groups(bot, say(fleet, ANA, "!ps")) == ADMIN


async def test_whatever_happens_when_each_message_counts_as_it_was(fleet: StandIn, bot: Bot) -> None:
    """Words and changes in any order, in bursts that fit into a timeline or do not, while the bot is there or away."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    given: dict[str, int] = {ANA: 100}
    wanted: dict[str, tuple[str, ...]] = {}

    def something() -> None:
        for _ in range(chance.randint(1, 3 * TIMELINE)):
            person = chance.choice([ANA, EVE])
            if chance.random() < 0.2:
                given[EVE] = chance.choice([0, 49, 50, 99, 100])
                power(fleet, dict(given))
            else:
                level = given.get(person, 0)
                wanted[say(fleet, person, "!ps")] = tuple(f"level:{step}" for step in (50, 100) if level >= step)

    for _ in range(6):
        async with bot.running():
            for _ in range(chance.randint(0, 3)):
                something()
                await fleet.hurry()
                if chance.random() < 0.5:
                    await bot.supervisor.got(say(fleet, ANA, "read up to here"))
        something()
    async with bot.running():
        found = {event: await groups(bot, event) for event in wanted}
    assert found == wanted


async def test_a_reaction_counts_like_words(fleet: StandIn, bot: Bot) -> None:
    async with bot.running():
        asked = await bot.say(ROOM, "allow?", key="1")
        relation = {"rel_type": "m.annotation", "event_id": asked.event_id, "key": "y"}
        for person, wanted in ((ANA, ADMIN), (EVE, NOBODY)):
            event = fleet.say(ROOM, person, "m.reaction", {"m.relates_to": relation})
            assert await groups(bot, event) == wanted


async def test_in_a_room_of_their_own_nobody_has_anything(fleet: StandIn, bot: Bot) -> None:
    async with bot.running():
        assert await groups(bot, say(fleet, EVE, "!stop", room=OTHER)) == NOBODY
        power(fleet, {EVE: 100, ANA: 100}, room=OTHER)
        assert await groups(bot, say(fleet, EVE, "!stop", room=OTHER)) == NOBODY


async def test_what_everybody_has_gives_nothing_and_is_told(fleet: StandIn, bot: Bot) -> None:
    power(fleet, {ANA: 100}, users_default=100)
    async with bot.running() as connector:
        assert await groups(bot, say(fleet, EVE, "!stop")) == NOBODY
        await healthy(connector, lambda health: "everybody has power level 100" in health.detail)
        power(fleet, {ANA: 100})
        assert await groups(bot, say(fleet, ANA, "mended")) == ADMIN
        assert "power level" not in (await connector.health()).detail


async def test_a_change_that_the_room_did_not_take_gives_nothing(fleet: StandIn, bot: Bot) -> None:
    """In a room of many homeservers a timeline also shows changes that lost against others."""

    def is_now(request: web.Request) -> web.Response | None:
        if not request.path.endswith("/state/m.room.power_levels/"):
            return None
        return web.json_response({"users": {ANA: 100}})

    async with bot.running():
        fleet.faults = is_now
        power(fleet, {ANA: 100, FAR: 100}, sender=FAR)
        assert await groups(bot, say(fleet, FAR, "!stop")) == NOBODY
        assert await groups(bot, say(fleet, ANA, "who was that?")) == ADMIN


async def test_another_homeserver_cannot_date_its_words_back(fleet: StandIn, bot: Bot) -> None:
    power(fleet, {ANA: 100, FAR: 100, EVE: 100})
    async with bot.running():
        assert await groups(bot, say(fleet, FAR, "hello")) == ADMIN
    # In the history it stands before the change, wherever it was said.
    dated_back, before = say(fleet, FAR, "!stop"), say(fleet, EVE, "!ps")
    power(fleet, {ANA: 100})
    much(fleet)
    async with bot.running():
        assert await groups(bot, dated_back) == NOBODY
        assert await groups(bot, before) == ADMIN, "our own homeserver tells the order"


async def test_a_homeserver_that_cannot_say_is_asked_again(
    fleet: StandIn, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from connectors.matrix import sync_loop

    monkeypatch.setattr(sync_loop, "pause", lambda failures, asked, random: 0.0)
    failed: list[str] = []

    def fails(request: web.Request) -> web.Response | None:
        if not request.path.endswith("/state/m.room.power_levels/") or len(failed) == 3:
            return None
        failed.append(request.path)
        return web.json_response({"errcode": "M_UNKNOWN", "error": "busy"}, status=500)

    async with bot.running():
        fleet.faults = fails
        before = say(fleet, EVE, "before")
        power(fleet, {ANA: 100, EVE: 50}, sender=FAR)
        after = say(fleet, EVE, "after")
        assert (await groups(bot, before), await groups(bot, after)) == (NOBODY, MODERATOR)
    assert len(failed) == 3


async def test_who_comes_back_into_the_room_finds_it_as_it_is(fleet: StandIn, bot: Bot) -> None:
    power(fleet, {ANA: 100, EVE: 100})
    async with bot.running():
        assert await groups(bot, say(fleet, EVE, "hello")) == ADMIN
        fleet.say(ROOM, ANA, "m.room.member", {"membership": "leave"}, state_key=BOT)
        await bot.supervisor.until(lambda: f'"rooms": ["{OTHER}"]' in (bot.supervisor.cursor or ""))
        power(fleet, {ANA: 100})
        fleet.say(ROOM, ANA, "m.room.member", {"membership": "join"}, state_key=BOT)
        assert await groups(bot, say(fleet, EVE, "!stop")) == NOBODY
        assert await groups(bot, say(fleet, ANA, "!ps")) == ADMIN


def test_what_a_sync_tells_of_the_state_alone_gives_nobody_more() -> None:
    levels = PowerLevels(server=SERVER, steps=(50,), counts=lambda room: True, rooms=Rooms())
    levels.take([(ROOM, Levels({ANA: 100, EVE: 100}))])
    event = {"type": "m.room.power_levels", "state_key": "", "content": {"users": {ANA: 100, FAR: 100}}}
    levels.learn(ROOM, [event])
    assert [levels.groups(ROOM, user) for user in (ANA, EVE, FAR)] == [MODERATOR, NOBODY, NOBODY]
    levels.take([(ROOM, Levels({ANA: 100}))])
    levels.learn(OTHER, [event])
    assert levels.groups(OTHER, FAR) == NOBODY, "nothing was known of it"


async def test_what_changed_without_an_event_is_found_at_the_next_start(fleet: StandIn, bot: Bot) -> None:
    """Homeservers of a room can come to agree on another state than that which any of their events says."""
    async with bot.running():
        assert await groups(bot, say(fleet, ANA, "hello")) == ADMIN
    given = next(event for at, event in fleet.events if at == ROOM and event["type"] == "m.room.power_levels")
    given["content"] = {"users": {EVE: 50}}
    async with bot.running():
        # What the first sync brings was said before it was asked, maybe with the levels of that time.
        await groups(bot, say(fleet, ANA, "hello again"))
        assert await groups(bot, say(fleet, ANA, "!stop")) == NOBODY
        assert await groups(bot, say(fleet, EVE, "!ps")) == MODERATOR


async def test_without_the_setting_nobody_is_in_a_group_and_nothing_is_asked(fleet: StandIn, tmp_path: Path) -> None:
    token = fleet.log_in(BOT, "MUSTER")
    account = Account(homeserver=fleet.url, user_id=BOT, password="", access_token=token, device_id="MUSTER")
    bot = Bot(account, tmp_path / "bot", fleet_rooms=[ROOM])
    async with bot.running():
        assert await groups(bot, say(fleet, ANA, "hello")) == NOBODY
    assert not any("power_levels" in request for request in fleet.requests)


# --- on Synapse --------------------------------------------------------------------------------------------------


@pytest.mark.synapse
@pytest.mark.parametrize("version", ["10", "12"])
async def test_a_real_room(synapse: Synapse, tmp_path: Path, version: str) -> None:
    async with (
        Operator(await synapse.register(prefix="ana")) as ana,
        Operator(await synapse.register(prefix="bob")) as bob,
    ):
        room = await ana.create_room(version=version, invite=[bob.user_id])
        await bob.join(room)
        bot = Bot(await synapse.register(prefix="bot"), tmp_path / "bot", fleet_rooms=[room], power_levels=STEPS)
        async with bot.running():
            await ana.invite(room, bot.user_id)
            await joined(ana, room, bot)
            assert await groups(bot, await ana.say(room, "hello")) == ADMIN
            assert await groups(bot, await bob.say(room, "hello")) == NOBODY
        await ana.set_power(room, bob.user_id, 60)
        promoted = await bob.say(room, "promoted")
        await ana.set_power(room, bob.user_id, 0)
        demoted = await bob.say(room, "demoted")
        async with bot.running():
            assert await groups(bot, promoted) == MODERATOR
            assert await groups(bot, demoted) == NOBODY
            assert await groups(bot, await ana.say(room, "hello again")) == ADMIN
