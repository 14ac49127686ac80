from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from bot.config import loader
from conduit.homeserver_api import is_open_to_listeners
from conduit.steps.fleet_room import MARK
from connectors.matrix.settings import MatrixSettings
from core.secret_references import Reference
from tests.conduit.conftest import ANA, BOT, Person, stands
from tests.conduit.fake_homeserver import SERVER, StandIn


async def test_a_first_run_makes_everything(person: Person, homeserver: StandIn) -> None:
    answer = await person.run("--room", "My fleet")
    assert answer.status == 0, answer
    room = stands(person, homeserver)
    assert list(homeserver.users) == [ANA, BOT]
    assert homeserver.users[ANA].admin
    state = homeserver.state(room)
    assert state["m.room.join_rules", ""]["content"] == {"join_rule": "invite"}
    assert state["m.room.name", ""]["content"] == {"name": "My fleet"}
    assert ("m.room.encryption", "") not in state
    assert "My fleet" in answer.text
    assert "Username: ana" in answer.text
    assert homeserver.users[ANA].devices == {}, "our own log-in as the operator is over"


async def test_secrets_are_for_this_user_alone_and_never_shown(person: Person, homeserver: StandIn) -> None:
    answers = [await person.run(), await person.run(), await person.run("--json")]
    hidden = [person.settings, *(text for answer in answers for text in (answer.text, answer.progress))]
    users = homeserver.users.values()
    secrets = [user.password for user in users] + [token for user in users for token in user.devices.values()]
    assert len(secrets) == 3
    for secret in secrets:
        assert not any(secret in text for text in hidden)
    assert all(stat.S_IMODE(place.stat().st_mode) == 0o600 for place in person.kept.iterdir())
    assert stat.S_IMODE(person.kept.stat().st_mode) == 0o700
    assert stat.S_IMODE(person.paths.muster_yaml.stat().st_mode) == 0o600


async def test_the_operators_password_is_where_it_says(person: Person, homeserver: StandIn) -> None:
    found = await person.done()
    assert Reference.parse(found["operator_password"]).resolve() == homeserver.users[ANA].password


async def test_a_second_run_changes_nothing(person: Person, homeserver: StandIn) -> None:
    await person.done()
    settings, events, users = person.settings, len(homeserver.events), json.dumps(list(homeserver.users))
    kept = {place.name: place.read_text() for place in person.kept.iterdir()}
    found = await person.done(way=())
    assert found["changed"] == []
    assert (person.settings, len(homeserver.events), json.dumps(list(homeserver.users))) == (settings, events, users)
    assert {place.name: place.read_text() for place in person.kept.iterdir()} == kept


def revoke_the_token(person: Person, homeserver: StandIn) -> None:
    homeserver.users[BOT].devices.clear()


def lose_the_token_file(person: Person, homeserver: StandIn) -> None:
    (person.kept / "matrix.token").unlink()


def lose_the_block(person: Person, homeserver: StandIn) -> None:
    person.paths.muster_yaml.write_text("connectors:\n  terminal:\n  # matrix is gone\n")


def lose_the_settings(person: Person, homeserver: StandIn) -> None:
    person.paths.muster_yaml.unlink()


def lose_half_the_block(person: Person, homeserver: StandIn) -> None:
    lines = [line for line in person.settings.splitlines(keepends=True) if "fleet_room" not in line]
    person.paths.muster_yaml.write_text("".join(lines))


def the_bot_leaves(person: Person, homeserver: StandIn) -> None:
    homeserver.say(homeserver.rooms[0], BOT, "m.room.member", {"membership": "leave"}, state_key=BOT)


def the_operator_leaves(person: Person, homeserver: StandIn) -> None:
    homeserver.say(homeserver.rooms[0], ANA, "m.room.member", {"membership": "leave"}, state_key=ANA)


def both_leave(person: Person, homeserver: StandIn) -> None:
    the_bot_leaves(person, homeserver)
    the_operator_leaves(person, homeserver)


def lose_the_record(person: Person, homeserver: StandIn) -> None:
    # The room cannot be known again, so the file's main room stays what it is.
    (person.kept / "matrix.json").unlink()
    lose_half_the_block(person, homeserver)


@pytest.mark.parametrize(
    "harm",
    [
        revoke_the_token,
        lose_the_token_file,
        lose_the_block,
        lose_the_settings,
        lose_half_the_block,
        the_bot_leaves,
        the_operator_leaves,
        both_leave,
        lose_the_record,
    ],
)
async def test_a_second_run_repairs(
    person: Person, homeserver: StandIn, harm: Callable[[Person, StandIn], None]
) -> None:
    await person.done()
    (device,) = homeserver.users[BOT].devices
    harm(person, homeserver)
    found = await person.done()
    assert found["changed"]
    room = stands(person, homeserver)
    assert len(homeserver.users) == 2
    if harm is both_leave:
        assert room == homeserver.rooms[1]
    elif harm is not lose_the_record:
        assert homeserver.rooms == [room]
        assert list(homeserver.users[BOT].devices) == [device], "keys of messages belong to a device"
    assert (await person.done())["changed"] == []


async def test_without_the_operators_password_it_says_who_can_help(person: Person, homeserver: StandIn) -> None:
    await person.done()
    (person.kept / "matrix.operator-password").unlink()
    the_bot_leaves(person, homeserver)
    said = await person.refused()
    assert f"Invite {BOT} there" in said
    assert "--operator-password" in said
    homeserver.say(homeserver.rooms[0], ANA, "m.room.member", {"membership": "invite"}, state_key=BOT)
    await person.done()
    stands(person, homeserver)


async def test_what_a_person_wrote_stays(person: Person, homeserver: StandIn) -> None:
    person.paths.prepare()
    mine = (
        "# my fleet\nconnectors:\n    terminal:   # here I type\n    # matrix: later\n\noperators:\n"
        '    "terminal:me": viewer  # careful\ntimezone: Europe/Vienna\n'
    )
    person.paths.muster_yaml.write_text(mine)
    person.paths.muster_yaml.chmod(0o640)
    await person.done()
    stands(person, homeserver)
    lines = iter(person.settings.splitlines())
    assert all(line in lines for line in mine.splitlines()), "every line, in its order"
    assert stat.S_IMODE(person.paths.muster_yaml.stat().st_mode) == 0o640
    assert (person.paths.config / "muster.yaml.bak").read_text() == mine


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("connectors: {terminal: }\n", "Write this into it"),
        ("connectors: [\n", "not valid"),
        ("conectors: {}\n", "conectors"),
        (
            "connectors:\n  matrix:\n    homeserver: https://a.test\n    user: '@b:a.test'\n    access_token: env:T\n",
            "homeserver is",
        ),
    ],
)
async def test_a_file_that_cannot_be_added_to_is_told_before_anything_is_made(
    person: Person, homeserver: StandIn, settings: str, words: str
) -> None:
    person.paths.prepare()
    person.paths.muster_yaml.write_text(settings)
    assert words in await person.refused()
    assert person.settings == settings
    assert homeserver.users == {}


async def test_a_second_fleet_has_a_connector_of_its_own(person: Person, homeserver: StandIn) -> None:
    await person.done()
    hers = f"file:{person.kept / 'matrix.operator-password'}"
    found = await person.done("--bot", "other", "--connector", "second", "--operator-password", hers)
    blocks = {each.name: each for each in loader.load(person.paths).connectors}
    assert blocks["second"].kind == "matrix"
    assert blocks["second"].fleet_room == found["room"] != blocks["matrix"].fleet_room


def upgraded(homeserver: StandIn, room: str, *, into: str = "!new:conduit.test", by: str = ANA) -> str:
    """Somebody replaced the room by one in which they are."""
    homeserver.say(into, by, "m.room.create", {"creator": by}, state_key="")
    homeserver.say(into, by, "m.room.member", {"membership": "join"}, state_key=by)
    homeserver.say(into, by, "m.room.power_levels", {"users": {by: 100}}, state_key="")
    homeserver.say(room, by, "m.room.tombstone", {"replacement_room": into}, state_key="")
    return into


async def test_a_room_that_was_upgraded_is_followed(person: Person, homeserver: StandIn) -> None:
    await person.done()
    old = stands(person, homeserver)
    middle = upgraded(homeserver, old)
    new = upgraded(homeserver, middle, into="!newest:conduit.test")
    changed = (await person.done())["changed"]
    assert any(f"followed the room {old}" in each for each in changed)
    assert stands(person, homeserver) == new
    assert old not in person.settings
    assert (await person.done())["changed"] == []
    # Rooms that go round are left where they are after a while.
    homeserver.say(new, ANA, "m.room.tombstone", {"replacement_room": middle}, state_key="")
    homeserver.say(middle, ANA, "m.room.tombstone", {"replacement_room": new}, state_key="")
    await person.done()


async def test_an_upgrade_into_a_room_of_others_is_told(person: Person, homeserver: StandIn) -> None:
    await person.done()
    old = stands(person, homeserver)
    new = upgraded(homeserver, old, by="@eve:conduit.test")
    said = await person.refused()
    assert f"was upgraded to {new}" in said
    assert stands(person, homeserver) == old


async def test_an_address_in_the_place_of_the_room_is_left_and_told(person: Person, homeserver: StandIn) -> None:
    await person.done()
    old = stands(person, homeserver)
    person.paths.muster_yaml.write_text(person.settings.replace(f'"{old}"', '"#fleet:conduit.test"'))
    answer = await person.run()
    assert f"leads to, {old}" in answer.progress
    assert "#fleet:conduit.test" in person.settings


async def test_a_bot_that_another_fleet_may_use_is_told(
    person: Person, homeserver: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await person.done()
    passwords = {who: f"file:{person.kept / f'matrix.{who}-password'}" for who in ("operator", "bot")}
    (tmp_path / "second").mkdir()
    second = Person(tmp_path / "second", homeserver.url, monkeypatch)
    answer = await second.run("--operator-password", passwords["operator"], "--bot-password", passwords["bot"])
    assert answer.status == 0, answer
    assert "write `rooms`" in answer.progress
    assert stands(second, homeserver) != stands(person, homeserver)
    assert len(homeserver.users[BOT].devices) == 2, "each has a log-in of its own"
    assert "write `rooms`" not in (await second.run(way=())).progress


async def test_an_encrypted_room_is_one_in_which_muster_is_to_encrypt(person: Person, homeserver: StandIn) -> None:
    await person.done("--encrypted")
    assert ("m.room.encryption", "") in homeserver.state(stands(person, homeserver))
    (block,) = [each for each in loader.load(person.paths).connectors if each.name == "matrix"]
    assert isinstance(block.settings, MatrixSettings)
    assert block.settings.encryption == "required"


async def test_an_installation_that_is_moved_finds_its_token(person: Person, homeserver: StandIn) -> None:
    await person.done()
    person.home = person.home.rename(person.folder / "elsewhere")
    block = next(
        each for each in loader.load(loader.Paths.of({"MUSTER_HOME": str(person.home)})).connectors if each.fleet_room
    )
    assert isinstance(block.settings, MatrixSettings)
    assert block.settings.access_token is not None
    assert block.settings.access_token.resolve() in homeserver.users[BOT].devices.values()


async def test_a_reference_that_is_written_in_full_is_the_same(person: Person, homeserver: StandIn) -> None:
    await person.done()
    settings = person.settings.replace("file:", f"file:{person.paths.config}/")
    person.paths.muster_yaml.write_text(settings)
    assert (await person.done())["changed"] == []
    person.paths.muster_yaml.write_text(settings.replace("matrix.token", "another"))
    assert "points elsewhere" in await person.refused()


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("http://127.0.0.1:6167", False),
        ("http://localhost:6167", False),
        ("http://[::1]:6167", False),
        ("https://fleet.example.org", False),
        ("http://fleet.example.org", True),
        ("http://127.0.0.1.example.org", True),
    ],
)
def test_whether_passwords_can_be_read_on_the_way(url: str, is_open: bool) -> None:
    assert is_open_to_listeners(url) is is_open


async def test_a_wrong_token_makes_nothing(person: Person, homeserver: StandIn) -> None:
    way = ("--registration-token", person.secret("wrong", "guess"))
    said = await person.refused(way=way)
    assert "does not take the registration token" in said
    assert "guess" not in said
    assert homeserver.users == {}
    assert not person.paths.muster_yaml.exists()
    await person.done()
    stands(person, homeserver)


async def test_a_name_that_somebody_else_has(person: Person, homeserver: StandIn) -> None:
    homeserver.add_user("muster", "theirs")
    said = await person.refused()
    assert "There is a user muster" in said
    assert "--bot-password" in said
    await person.done("--bot-password", person.secret("theirs", "theirs"))
    stands(person, homeserver)


async def test_after_a_name_that_is_taken_another_can_be_chosen(person: Person, homeserver: StandIn) -> None:
    homeserver.add_user("ana", "hers")
    homeserver.add_user("muster", "its")
    wrong = ("--registration-token", person.secret("wrong", "guess"))
    assert "registration token" in await person.refused("--operator", "anna", way=wrong)
    assert "Choose another name" in await person.refused()
    theirs = ("--operator-password", person.secret("hers", "hers"))
    assert "a user muster" in await person.refused(*theirs)
    outcome = await person.done(*theirs, "--bot", "robot")
    assert (outcome["operator"], outcome["bot"]) == (ANA, f"@robot:{SERVER}")
    # That of the first run, which was never hers, is not offered as hers.
    assert outcome["operator_password"] is None


async def test_users_that_are_there_need_no_token(person: Person, homeserver: StandIn) -> None:
    homeserver.add_user("ana", "hers")
    homeserver.add_user("muster", "its")
    assert "--registration-token" in await person.refused(way=())
    hers, its = person.secret("hers", "hers"), person.secret("its", "its")
    found = await person.done("--operator-password", hers, "--bot-password", its, way=())
    assert found["homeserver"] == homeserver.url
    stands(person, homeserver)


async def test_synapses_shared_secret(person: Person, homeserver: StandIn) -> None:
    homeserver.shared_secret, homeserver.allow_registration = "shared", False
    way = ("--shared-secret", person.secret("wrong", "guess"))
    assert "shared secret" in await person.refused(way=way)
    await person.done(way=("--shared-secret", person.secret("shared", "shared")))
    stands(person, homeserver)
    assert [homeserver.users[user].admin for user in (ANA, BOT)] == [True, False]


async def test_a_homeserver_without_shared_secrets_says_so(person: Person, homeserver: StandIn) -> None:
    way = ("--shared-secret", person.secret("shared", "shared"))
    assert "use --registration-token" in await person.refused(way=way)


async def test_registration_that_is_closed_or_open(person: Person, homeserver: StandIn) -> None:
    homeserver.allow_registration = False
    assert "allow_registration" in await person.refused()
    homeserver.allow_registration, homeserver.registration_token = True, None
    answer = await person.run()
    assert answer.status == 0
    assert "registers anybody" in answer.progress


async def test_a_homeserver_that_is_away(person: Person) -> None:
    person.url = "http://127.0.0.1:9"
    said = await person.refused()
    assert "cannot be reached" in said
    assert not (person.kept / "matrix.json").exists()


async def test_something_else_at_the_address(person: Person, homeserver: StandIn) -> None:
    homeserver.faults = lambda request: web.Response(text="It works!")
    assert "not a Matrix homeserver" in await person.refused()
    homeserver.faults = lambda request: web.Response(status=302, headers={"Location": "http://elsewhere.test/"})
    assert "status 302" in await person.refused()


async def test_a_rate_limit_is_waited_out_or_told(person: Person, homeserver: StandIn) -> None:
    asked: list[int] = []

    def slow_down(request: web.Request) -> web.Response | None:
        if request.method != "POST" or len(asked) > 4:
            return None
        # Every other one, so that each goes on after its first wait.
        asked.append(1)
        limit = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too fast", "retry_after_ms": 1}
        return web.json_response(limit, status=429) if len(asked) % 2 else None

    homeserver.faults = slow_down
    await person.done()
    stands(person, homeserver)
    assert len(asked) == 5

    revoke_the_token(person, homeserver)
    limit = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too fast", "retry_after_ms": 600_000}
    homeserver.faults = lambda request: (
        web.json_response(limit, status=429) if request.path.endswith("/login") else None
    )
    assert "wants 600 s" in await person.refused()
    homeserver.faults = lambda request: None
    await person.done()


@pytest.mark.parametrize("path", ["/register", "/createRoom", "/join/"])
async def test_an_answer_that_is_lost_is_made_good_by_the_next_run(
    person: Person, homeserver: StandIn, path: str
) -> None:
    # The first request for a registration only asks what is wanted.
    def is_lost(request: web.Request) -> bool:
        return path in request.path and (path != "/register" or bool(homeserver.users))

    homeserver.lost = is_lost
    assert "cannot be reached" in await person.refused()
    homeserver.lost = lambda request: False
    await person.done()
    assert homeserver.rooms == [stands(person, homeserver)]
    assert len(homeserver.users) == 2


async def test_what_was_begun_for_others_is_not_mixed(person: Person, homeserver: StandIn) -> None:
    await person.done()
    assert "operator ana and bot muster" in await person.refused("--bot", "other")
    person.url = homeserver.url.replace("127.0.0.1", "localhost")
    assert "was set up here on" in await person.refused()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--operator", "@ana:a.test"), "--operator"),
        (("--bot", "ana"), "the same"),
        (("--registration-token", "hunter2"), "reference"),
        (("--homeserver", "localhost"), "not a URL"),
        (("--homeserver", "http://u:p@a.test"), "has no user"),
        (("--connector", "X"), "--connector"),
        (("--room", "a\nb"), "--room"),
    ],
)
async def test_words_that_cannot_be_meant(
    person: Person, homeserver: StandIn, more: tuple[str, str], words: str
) -> None:
    said = await person.refused(*more)
    assert words in said
    assert "hunter2" not in said
    assert homeserver.requests == []


async def test_nobody_to_ask_is_told(person: Person, homeserver: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(person, "words", lambda *more, way: ["--homeserver", person.url, "--operator", "ana"])
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert "--yes" in await person.refused()
    assert homeserver.requests == []


async def test_the_rooms_mark_is_nobody_elses(person: Person, homeserver: StandIn) -> None:
    await person.done()
    (room,) = homeserver.rooms
    mark = homeserver.state(room)["m.room.create", ""]["content"][MARK]
    assert json.loads((person.kept / "matrix.json").read_text())["mark"] == mark
    assert len(mark) == 32


def test_who_has_read_enough_is_shown_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        words = ["--homeserver", "http://127.0.0.1:1", "--operator", "ana", "--bot", "ana", "--json"]
        command = [sys.executable, "-m", "conduit.provision", *words]
        ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, timeout=60)
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (1, b"")
