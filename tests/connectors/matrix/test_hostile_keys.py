"""Keys of encrypted rooms between two devices, with a homeserver or a stranger that does what it should not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import vodozemac

from connectors.contract.connector_protocol import DeviceState, MessageRefused
from connectors.matrix.crypto import key_store as stores
from connectors.matrix.crypto import olm_machine as machines
from connectors.matrix.crypto.key_store import KeyStore, KnownDevice
from connectors.matrix.crypto.olm_machine import Closed, DecryptedEvent, Machine
from connectors.matrix.crypto.outbound_sessions import KeyRequest, Rotation
from connectors.matrix.crypto.primitives import device_keys, public_keys, signed
from connectors.matrix.device_lists import DeviceLists
from connectors.matrix.encrypted_files import FileSecrets, Tampered, open_file, seal_file
from connectors.matrix.encrypted_rooms import Encryption
from connectors.matrix.encryption_recipients import EncryptionRecipients
from connectors.matrix.homeserver_client import MatrixRefusal
from connectors.matrix.message_conversion import Me
from connectors.matrix.power_levels import PowerLevels
from connectors.matrix.room_aliases import Aliases
from connectors.matrix.room_cache import Rooms
from connectors.matrix.sync_loop import SyncLoop, encrypts
from connectors.matrix.sync_response import KeyNews, SyncPosition, key_news

Json = dict[str, Any]
ROOM = "!room:x"


class Device:
    """One device, and what a homeserver has of it."""

    def __init__(self, folder: Path, user: str, name: str) -> None:
        self.user, self.name, self.now = user, name, 1_000_000.0
        self.file = folder / f"{name}.db"
        self.store = KeyStore(self.file, b"k" * 32)
        with self.store.transaction():
            self.store.make_account(vodozemac.Account(), user, name)
        self.machine = Machine(user=user, device=name, store=self.store, clock=self.clock)
        body = self.machine.to_upload(None, has_fallback=None)
        assert body is not None
        self.shown: Json = body["device_keys"]
        self.one_time: Json = body["one_time_keys"]
        self.machine.uploaded()

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    def in_file(self, statement: str, *values: object) -> list[Any]:
        """What is done to its file, or read in it, by somebody else than itself."""
        with contextlib.closing(sqlite3.connect(self.file, isolation_level=None)) as db:
            return db.execute(statement, values).fetchall()

    def learn(self, *others: Device, **changes: Any) -> None:
        for other in others:
            answer = {"device_keys": {other.user: {other.name: other.shown | changes}}}
            self.machine.learn(answer, [other.user])

    def known(self, other: Device) -> KnownDevice:
        return next(device for device in self.store.devices(other.user) if device.id == other.name)

    def claim(self, other: Device) -> None:
        key_id, key = other.one_time.popitem()
        answer = {"one_time_keys": {other.user: {other.name: {key_id: key}}}}
        self.machine.outgoing.claimed(answer, {other.user: {other.name: "signed_curve25519"}})

    def letter_to(self, other: Device, kind: str, content: Json) -> Json:
        (body,) = self.machine.outgoing.letters([self.known(other)], kind, content)
        return self.posted(body, other)

    def posted(self, body: Json, to: Device) -> Json:
        return {"type": "m.room.encrypted", "sender": self.user, "content": body["messages"][to.user][to.name]}

    def share(self, *others: Device, room: str = ROOM) -> list[Json]:
        """Give the key of the session that it writes with to others; what each was sent."""
        out = self.machine.outgoing
        lacking = out.lacking(room, [self.known(other) for other in others], Rotation())
        found = []
        for body in out.handed_out(room, lacking):
            out.hold(room, body)
            found += [
                self.posted(body, other) for other in others if other.name in body["messages"].get(other.user, {})
            ]
        return found

    def write(self, text: str, event_id: str, room: str = ROOM, **changes: Any) -> Json:
        content = self.machine.outgoing.seal(room, "m.room.message", {"msgtype": "m.text", "body": text})
        return {"type": "m.room.encrypted", "event_id": event_id, "sender": self.user, "content": content} | changes

    def hear(self, *events: Json) -> frozenset[tuple[str, str]]:
        return self.machine.hear(events, {ROOM, "!other:x"}).keys

    def read(self, event: Json, room: str = ROOM) -> DecryptedEvent | Closed | None:
        return self.machine.open(room, event)


@pytest.fixture
def bot(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path, "@bot:x", "BOT")
    yield device
    device.store.close()


@pytest.fixture
def ana(tmp_path: Path, bot: Device) -> Iterator[Device]:
    device = Device(tmp_path, "@ana:x", "ANA")
    device.learn(bot)
    bot.learn(device)
    device.claim(bot)
    bot.claim(device)
    yield device
    device.store.close()


@pytest.fixture
def eve(tmp_path: Path, bot: Device) -> Iterator[Device]:
    device = Device(tmp_path, "@eve:x", "EVE")
    device.learn(bot)
    bot.learn(device)
    device.claim(bot)
    bot.claim(device)
    yield device
    device.store.close()


def text(found: DecryptedEvent | Closed | None) -> str:
    assert isinstance(found, DecryptedEvent), found
    return str(found.event["content"]["body"])


def reason(found: DecryptedEvent | Closed | None) -> str:
    assert isinstance(found, Closed), found
    return found.reason


# --- devices -----------------------------------------------------------------------------------------------------


def test_keys_count_only_for_the_device_that_signed_them(ana: Device, eve: Device) -> None:
    good = ana.shown
    assert device_keys(good, ana.user, ana.name) is not None
    assert device_keys(good, eve.user, ana.name) is None
    assert device_keys(good, ana.user, "OTHER") is None
    # Signatures are not signed: a homeserver can list hers as somebody else's.
    assert device_keys({**good, "signatures": {eve.user: good["signatures"][ana.user]}}, eve.user, ana.name) is None
    # Another's keys under a name of one's own, without, and with a signature of one's own.
    stolen = {**good, "user_id": eve.user, "device_id": eve.name}
    assert device_keys(stolen, eve.user, eve.name) is None
    account = eve.store.account()
    assert account is not None
    mine = {
        f"ed25519:{eve.name}": good["keys"]["ed25519:ANA"],
        f"curve25519:{eve.name}": good["keys"]["curve25519:ANA"],
    }
    unsigned = {"algorithms": [], "user_id": eve.user, "device_id": eve.name, "keys": mine}
    assert device_keys(signed(account, unsigned, eve.user, eve.name), eve.user, eve.name) is None
    for spoiled in (
        {**good, "keys": {**good["keys"], "curve25519:ANA": eve.shown["keys"]["curve25519:EVE"]}},
        {**good, "signatures": {}},
        {**good, "algorithms": ["none"]},
    ):
        assert device_keys(spoiled, ana.user, ana.name) is None


def test_keys_that_are_pinned_stay_whatever_the_homeserver_shows(bot: Device, ana: Device, tmp_path: Path) -> None:
    before = bot.known(ana)
    (tmp_path / "other").mkdir()
    other = Device(tmp_path / "other", ana.user, ana.name)
    bot.learn(other)
    assert (bot.known(ana).keys, bot.known(ana).standing) == (before.keys, DeviceState.CHANGED)
    assert bot.machine.outgoing.readers([ana.user]) == []
    bot.learn(ana)
    assert bot.known(ana).standing is DeviceState.SEEN
    bot.machine.judge(ana.user, ana.name, DeviceState.BLOCKED)
    bot.learn(other)
    bot.learn(ana)
    assert bot.known(ana).standing is DeviceState.BLOCKED
    other.store.close()


def test_a_one_time_key_that_its_device_did_not_sign_begins_no_session(bot: Device, ana: Device, eve: Device) -> None:
    account, hers = eve.store.account(), ana.store.account()
    assert account is not None
    assert hers is not None
    for key in (
        signed(account, {"key": "A" * 43}, ana.user, ana.name),
        {"key": next(iter(ana.one_time.values()))["key"]},
        next(iter(eve.one_time.values())),
    ):
        bot.in_file("DELETE FROM olm_sessions")
        answer = {"one_time_keys": {ana.user: {ana.name: {"signed_curve25519:AAAA": key}}}}
        bot.machine.outgoing.claimed(answer, {ana.user: {ana.name: "signed_curve25519"}})
        assert bot.store.olm_sessions(public_keys(hers).curve25519) == []


def test_a_devices_name_of_half_characters_does_no_harm(bot: Device, ana: Device) -> None:
    bot.learn(ana, unsigned={"device_display_name": "\ud800 laptop"})
    assert bot.known(ana).name == "? laptop"


# --- from device to device ---------------------------------------------------------------------------------------


def test_a_letter_counts_only_for_whom_it_was_written_to_and_by(bot: Device, ana: Device, eve: Device) -> None:
    (event,) = ana.share(bot)
    # The homeserver says that somebody else sent it.
    assert bot.hear({**event, "sender": eve.user}) == frozenset()


@pytest.mark.parametrize("field", ["recipient", "recipient_keys", "sender", "keys"])
def test_a_letter_that_names_others_than_its_envelope_is_none(
    bot: Device, ana: Device, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana.machine.outgoing.lacking(ROOM, [ana.known(bot)], Rotation())
    session = ana.machine.outgoing.session_of(ROOM).session
    content = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": ROOM,
        "session_id": session.session_id,
        "session_key": session.session_key.to_base64(),
    }
    dumps = json.dumps

    def changed(value: Any, **named: Any) -> str:
        if isinstance(value, dict) and field in value and value.get("type") == "m.room_key":
            other: Any = {"ed25519": "A" * 43} if field == "recipient_keys" else "@eve:x"
            value = {**value, field: {} if field == "keys" else other}
        return dumps(value, **named)

    with monkeypatch.context() as patched:
        patched.setattr("connectors.matrix.crypto.primitives.json.dumps", changed)
        event = ana.letter_to(bot, "m.room_key", content)
    assert bot.hear(event) == frozenset()
    assert bot.hear(ana.letter_to(bot, "m.room_key", content)) == {(ROOM, session.session_id)}


def test_a_letter_that_comes_again_is_passed_over(bot: Device, ana: Device) -> None:
    (event,) = ana.share(bot)
    assert len(bot.hear(event)) == 1
    bot.now += 7_200.0
    assert bot.hear(event) == frozenset()
    # Nor is a new session begun because of it.
    assert bot.machine.outgoing.torn == set()


def test_a_key_is_taken_only_for_a_room_in_which_we_are(bot: Device, ana: Device) -> None:
    (event,) = ana.share(bot, room="!elsewhere:x")
    assert bot.hear(event) == frozenset()


def test_half_characters_from_device_to_device_do_no_harm(bot: Device, ana: Device) -> None:
    half = "\ud800"
    (event,) = ana.share(bot)
    body = {"algorithm": "m.megolm.v1.aes-sha2", "room_id": ROOM, "session_id": half}
    asked = {"action": "request", "requesting_device_id": ana.name, "request_id": "1", "body": body}
    heard = bot.machine.hear(
        [
            {"type": "m.room_key_request", "sender": ana.user, "content": asked},
            {"type": "m.room_key_request", "sender": ana.user, "content": {**asked, "requesting_device_id": half}},
            {**event, "sender": half},
            {**event, "content": {**event["content"], "sender_key": half}},
            event,
        ],
        {ROOM},
    )
    assert heard.requests == ()
    assert len(heard.keys) == 1


def test_strangers_cannot_fill_the_disk_with_sessions_and_keys(
    bot: Device, ana: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "OLM_SESSIONS", 10)
    monkeypatch.setattr(stores, "ROOM_KEYS", 10)
    assert bot.hear(*ana.share(bot))
    hers = ana.write("hello", "$1")
    (tmp_path / "others").mkdir()
    for number in range(15):
        stranger = Device(tmp_path / "others", f"@s{number}:x", f"S{number}")
        stranger.learn(bot)
        stranger.claim(bot)
        assert bot.hear(*stranger.share(bot))
        stranger.store.close()
    for table in ("olm_sessions", "room_keys"):
        ((rows,),) = bot.in_file(f"SELECT count(*) FROM {table}")
        assert rows <= 10
    # Theirs went, and not those of a device that is known.
    assert text(bot.read(hers)) == "hello"
    assert bot.store.olm_sessions(bot.known(ana).keys.curve25519)


# --- messages in rooms -------------------------------------------------------------------------------------------


def test_strangers_cannot_fill_the_disk_with_devices_that_they_log_out(
    bot: Device, eve: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "MOST_GONE", 4)
    account = eve.store.account()
    assert account is not None
    own = public_keys(account)

    def shown(number: int, curve25519: str) -> Json:
        keys = {f"ed25519:D{number}": own.ed25519, f"curve25519:D{number}": curve25519}
        about = {"algorithms": [], "device_id": f"D{number}", "user_id": eve.user, "keys": keys}
        return signed(account, about, eve.user, f"D{number}")

    bot.machine.judge(eve.user, eve.name, DeviceState.BLOCKED)
    for number in range(10):
        bot.now += 1.0
        # Other keys under its name do not have it remembered either.
        for curve25519 in (own.curve25519, "A" * 43)[: 1 + number % 2]:
            bot.machine.learn({"device_keys": {eve.user: {f"D{number}": shown(number, curve25519)}}}, [eve.user])
    known = {device.id: device for device in bot.store.devices(eve.user)}
    # What was said of a device is remembered, and of the others the newest are.
    assert set(known) == {eve.name, *(f"D{number}" for number in range(5, 10))}
    assert [name for name, device in known.items() if not device.gone] == ["D9"]
    assert known[eve.name].standing is DeviceState.BLOCKED


def test_a_message_is_its_senders_alone_in_its_room_and_once(bot: Device, ana: Device, eve: Device) -> None:
    bot.hear(*ana.share(bot), *eve.share(bot), *ana.share(bot, room="!other:x"))
    said = ana.write("hello", "$1")
    assert text(bot.read(said)) == "hello"
    assert text(bot.read(said)) == "hello"
    assert "repeats" in reason(bot.read({**said, "event_id": "$2"}))
    assert "does not list" in reason(bot.read({**eve.write("!stop all", "$3"), "sender": ana.user}))
    # A session of one room that its writer gives out under another's name.
    session = ana.machine.outgoing.session_of("!other:x").session
    content = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": ROOM,
        "session_id": session.session_id,
        "session_key": session.session_key.to_base64(),
    }
    assert bot.hear(ana.letter_to(bot, "m.room_key", content))
    assert "another room" in reason(bot.read(ana.write("elsewhere", "$4", room="!other:x")))


def test_a_session_of_somebody_elses_is_not_made_ones_own(bot: Device, ana: Device, eve: Device) -> None:
    bot.hear(*ana.share(bot))
    session = ana.machine.outgoing.session_of(ROOM).session
    exported = vodozemac.InboundGroupSession(session.session_key).export_at(0)
    assert exported is not None
    forged = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": ROOM,
        "session_id": session.session_id,
        "session_key": exported.to_base64(),
        "sender_key": bot.known(ana).keys.curve25519,
    }
    assert bot.hear(eve.letter_to(bot, "m.forwarded_room_key", forged)) == frozenset()
    named = vodozemac.GroupSession()
    other = {**forged, "session_key": named.session_key.to_base64()}
    assert bot.hear(eve.letter_to(bot, "m.room_key", other)) == frozenset()
    # What is kept is not replaced by what opens less.
    late = ana.write("one", "$1")
    worse = {**forged, "session_key": session.session_key.to_base64()}
    assert bot.hear(ana.letter_to(bot, "m.room_key", worse)) == frozenset()
    assert text(bot.read(late)) == "one"


def test_nobody_takes_the_places_of_somebody_elses_messages(bot: Device, ana: Device, eve: Device) -> None:
    bot.hear(*ana.share(bot))
    session = ana.machine.outgoing.session_of(ROOM).session
    content = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": ROOM,
        "session_id": session.session_id,
        "session_key": session.session_key.to_base64(),
    }
    # Who reads along has the key as well, and gives it out as one of her own.
    assert bot.hear(eve.letter_to(bot, "m.room_key", content))
    said = ana.write("hello", "$1")
    assert text(bot.read({**said, "sender": eve.user, "event_id": "$0"})) == "hello"
    assert text(bot.read(said)) == "hello"
    # Asked for again, as after a crash or with what an edit adds to it; not under another id, from either.
    assert text(bot.read({**said, "unsigned": {"m.relations": {"m.replace": {}}}})) == "hello"
    for sender in (ana.user, eve.user):
        assert "repeats" in reason(bot.read({**said, "sender": sender, "event_id": "$2"}))


def test_what_came_by_an_earlier_version_is_not_said_again(bot: Device, ana: Device, tmp_path: Path) -> None:
    bot.hear(*ana.share(bot))
    first, second = ana.write("one", "$1"), ana.write("two", "$2")
    bot.in_file(
        "CREATE TABLE places (session_id TEXT NOT NULL, place INTEGER NOT NULL, event_id TEXT NOT NULL, "
        "PRIMARY KEY (session_id, place)) WITHOUT ROWID"
    )
    bot.in_file("INSERT INTO places SELECT session_id, 0, '$1' FROM room_keys")
    bot.store.close()
    bot.store = KeyStore(bot.file, b"k" * 32)
    bot.machine = Machine(user=bot.user, device=bot.name, store=bot.store, clock=bot.clock)
    assert "repeats" in reason(bot.read({**first, "event_id": "$3"}))
    assert text(bot.read(first)) == "one"
    assert text(bot.read(second)) == "two"
    bot.store.prune(0.0)
    assert "repeats" in reason(bot.read({**second, "event_id": "$3"}))
    bot.store.prune(bot.now + 1.0)
    assert bot.in_file("SELECT count(*) FROM message_places") == [(0,)]


def test_a_key_under_another_fingerprint_than_its_devices_opens_nothing(bot: Device, ana: Device) -> None:
    bot.hear(*ana.share(bot))
    said = ana.write("hello", "$1")
    bot.in_file("UPDATE room_keys SET ed25519 = ?", "A" * 43)
    assert "other keys than its own" in reason(bot.read(said))


def test_only_messages_are_taken_out_of_what_is_encrypted(bot: Device, ana: Device) -> None:
    bot.hear(*ana.share(bot))
    for kind in ("m.reaction", "m.room.redaction", "m.room.member"):
        content = ana.machine.outgoing.seal(ROOM, kind, {"membership": "join"})
        event = {"type": "m.room.encrypted", "event_id": f"${kind}", "sender": ana.user, "content": content}
        assert "no message" in reason(bot.read(event))


@pytest.mark.parametrize("kind", [["m.room.message"], {}, None, 7])
def test_a_message_of_a_kind_that_is_no_name_is_none(bot: Device, ana: Device, kind: Any) -> None:
    bot.hear(*ana.share(bot))
    content = ana.machine.outgoing.seal(ROOM, kind, {"msgtype": "m.text", "body": "hello"})
    event = {"type": "m.room.encrypted", "event_id": "$1", "sender": ana.user, "content": content}
    assert "no message" in reason(bot.read(event))
    assert text(bot.read(ana.write("after it", "$2"))) == "after it"


@pytest.mark.parametrize("rotation", [Rotation(messages=2), Rotation(seconds=30.0)])
def test_a_group_session_ends_after_so_many_messages_or_so_long(bot: Device, ana: Device, rotation: Rotation) -> None:
    out = bot.machine.outgoing
    seen = set()
    for number in range(3):
        out.lacking(ROOM, [bot.known(ana)], rotation)
        seen.add(bot.write("hello", f"${number}")["content"]["session_id"])
        bot.now += 20.0
    assert len(seen) == 2


def test_a_device_that_was_logged_out_is_given_nothing_more(bot: Device, ana: Device) -> None:
    assert [device.id for device in bot.machine.outgoing.readers([ana.user])] == [ana.name]
    bot.machine.learn({"device_keys": {ana.user: {}}}, [ana.user])
    assert bot.machine.outgoing.readers([ana.user]) == []


def gone(bot: Device, other: Device) -> None:
    bot.machine.learn({"device_keys": {other.user: {}}}, [other.user])


def told(bot: Device) -> list[tuple[str, bool]]:
    """What is to be said of devices; it is said with that."""
    untold = bot.store.untold()
    with bot.store.transaction():
        bot.store.mark_devices_told(untold)
    return [(each.device.id, each.back) for each in untold]


def test_a_device_that_was_logged_out_and_is_shown_again_is_a_new_one(bot: Device, ana: Device) -> None:
    assert told(bot) == []
    bot.share(ana)
    first = bot.machine.outgoing.session_of(ROOM).session.session_id
    bot.machine.judge(ana.user, ana.name, DeviceState.TRUSTED)
    seen = set()
    for _ in range(2):
        gone(bot, ana)
        bot.learn(ana)
        assert bot.known(ana).standing is DeviceState.SEEN
        seen |= {each.since for each in bot.store.untold()}
        assert told(bot) == [(ana.name, True)]
        bot.learn(ana)
        assert told(bot) == []
    assert len(seen) == 2
    # It asks for what was said before: nobody knows who has its keys by now.
    readers = bot.machine.outgoing.readers([ana.user])
    request = KeyRequest(user=ana.user, device=ana.name, room=ROOM, session_id=first, id="1")
    assert bot.machine.outgoing.answer(request, readers) == []
    assert len(bot.share(ana)) == 1
    assert bot.machine.outgoing.session_of(ROOM).session.session_id != first
    bot.machine.judge(ana.user, ana.name, DeviceState.BLOCKED)
    gone(bot, ana)
    bot.learn(ana)
    assert (told(bot), bot.known(ana).standing) == ([], DeviceState.BLOCKED)


def test_what_is_told_of_a_device_while_something_else_is_said_of_it_is_not_lost(bot: Device, ana: Device) -> None:
    gone(bot, ana)
    bot.learn(ana)
    untold = bot.store.untold()
    gone(bot, ana)
    bot.learn(ana)
    with bot.store.transaction():
        bot.store.mark_devices_told(untold)
    assert told(bot) == [(ana.name, True)]


def test_other_keys_under_the_name_of_a_device_that_was_logged_out_are_listed(
    bot: Device, ana: Device, tmp_path: Path
) -> None:
    bot.share(ana)
    first = bot.machine.outgoing.session_of(ROOM).session.session_id
    gone(bot, ana)
    (tmp_path / "other").mkdir()
    other = Device(tmp_path / "other", ana.user, ana.name)
    bot.learn(other)
    assert (bot.known(ana).standing, bot.known(ana).gone) == (DeviceState.CHANGED, False)
    assert told(bot) == [(ana.name, False)]
    bot.machine.judge(ana.user, ana.name, DeviceState.SEEN)
    bot.learn(other)
    # Who had the name before reads nothing more, and what they were given is not given to who has it now.
    bot.machine.outgoing.lacking(ROOM, bot.machine.outgoing.readers([ana.user]), Rotation())
    assert bot.machine.outgoing.session_of(ROOM).session.session_id != first
    request = KeyRequest(user=ana.user, device=ana.name, room=ROOM, session_id=first, id="1")
    assert bot.machine.outgoing.answer(request, bot.machine.outgoing.readers([ana.user])) == []
    other.store.close()


def test_a_lost_session_is_mended_once_an_hour(bot: Device, ana: Device) -> None:
    (first,) = ana.share(bot)
    bot.hear(first)
    # From here on both have it, and Ana's device writes in it without its beginning.
    (body,) = bot.machine.outgoing.letters([bot.known(ana)], "m.dummy", {})
    ana.hear(bot.posted(body, ana))
    bot.in_file("DELETE FROM olm_sessions")
    bot.claim(ana)
    lost = [ana.letter_to(bot, "m.dummy", {}) for _ in range(2)]
    bot.hear(lost[0])
    assert bot.machine.outgoing.torn == set()
    bot.now += 3_600.0
    bot.hear(lost[1])
    assert bot.machine.outgoing.torn == {(ana.user, ana.name)}


def test_what_is_written_on_a_device_that_is_blocked_or_has_other_keys_is_not_taken(bot: Device, ana: Device) -> None:
    bot.hear(*ana.share(bot))
    bot.machine.judge(ana.user, ana.name, DeviceState.BLOCKED)
    assert "blocked" in reason(bot.read(ana.write("hello", "$1")))
    bot.machine.judge(ana.user, ana.name, DeviceState.CHANGED)
    assert "other keys" in reason(bot.read(ana.write("hello", "$2")))


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": "@\ud800:x"},
        {"event_id": "$\ud800"},
        {"content": {"session_id": "\ud800"}},
        {"content": {"session_id": "s" * 60_000}},
    ],
)
def test_an_event_of_half_characters_is_nothing(bot: Device, ana: Device, changes: Json) -> None:
    bot.hear(*ana.share(bot))
    said = ana.write("hello", "$1")
    content = said["content"] | changes.get("content", {})
    assert bot.read({**said, **changes, "content": content}) is None
    assert text(bot.read(said)) == "hello"


# --- what goes out -----------------------------------------------------------------------------------------------


def test_who_may_read_no_more_reads_nothing_from_the_next_message_on(bot: Device, ana: Device, eve: Device) -> None:
    bot.share(ana, eve)
    first = bot.machine.outgoing.session_of(ROOM).session.session_id
    bot.share(ana)
    assert bot.machine.outgoing.session_of(ROOM).session.session_id != first
    # Whoever comes is given what is written from then on.
    second = bot.machine.outgoing.session_of(ROOM).session.session_id
    bot.write("for ana", "$1")
    (event,) = bot.share(ana, eve)
    assert bot.machine.outgoing.session_of(ROOM).session.session_id == second
    eve.hear(event)
    (key,) = eve.store.room_keys(ROOM, second)
    assert key.session.first_known_index == 1


@pytest.mark.parametrize("shown_again", [False, True])
def test_who_may_have_been_given_a_key_that_nobody_acknowledged_reads_no_more_either(
    bot: Device, ana: Device, eve: Device, shown_again: bool
) -> None:
    bot.share(ana)
    out = bot.machine.outgoing
    session = out.session_of(ROOM).session.session_id
    both = [bot.known(ana), bot.known(eve)]
    for _ in range(2):
        # The homeserver has it and its answer is lost, so the same session is handed out again.
        lacking = out.lacking(ROOM, both, Rotation())
        assert [device.id for device in lacking] == [eve.name]
        out.handed_out(ROOM, lacking)
    assert out.session_of(ROOM).session.session_id == session
    if shown_again:
        gone(bot, eve)
        bot.learn(eve)
        out.lacking(ROOM, both, Rotation())
    else:
        bot.machine.judge(eve.user, eve.name, DeviceState.BLOCKED)
        out.lacking(ROOM, [bot.known(ana)], Rotation())
    assert out.session_of(ROOM).session.session_id != session


def asked(bot: Device, by: Device) -> list[Json]:
    session = bot.machine.outgoing.session_of(ROOM).session.session_id
    request = KeyRequest(user=by.user, device=by.name, room=ROOM, session_id=session, id="1")
    return bot.machine.outgoing.answer(request, bot.machine.outgoing.readers([by.user]))


def test_who_asks_is_given_what_they_were_given_and_no_more_until_an_admin_trusts_them(
    bot: Device, ana: Device, eve: Device
) -> None:
    bot.share(ana)
    bot.write("for ana", "$1")
    assert asked(bot, by=eve) == []
    bot.share(ana, eve)
    session = bot.machine.outgoing.session_of(ROOM).session.session_id
    for device, index in ((ana, 0), (eve, 1)):
        (body,) = asked(bot, by=device)
        device.hear(bot.posted(body, device))
        (key,) = device.store.room_keys(ROOM, session)
        assert key.session.first_known_index == index
    bot.machine.judge(eve.user, eve.name, DeviceState.TRUSTED)
    (body,) = asked(bot, by=eve)
    eve.hear(bot.posted(body, eve))
    (key,) = eve.store.room_keys(ROOM, session)
    assert key.session.first_known_index == 0
    bot.machine.judge(eve.user, eve.name, DeviceState.BLOCKED)
    assert asked(bot, by=eve) == []


def test_who_got_a_key_for_the_asking_reads_no_more_once_blocked(bot: Device, ana: Device, eve: Device) -> None:
    bot.share(ana)
    session = bot.machine.outgoing.session_of(ROOM).session.session_id
    bot.machine.judge(eve.user, eve.name, DeviceState.TRUSTED)
    assert asked(bot, by=eve) != []
    bot.machine.judge(eve.user, eve.name, DeviceState.BLOCKED)
    bot.share(ana)
    assert bot.machine.outgoing.session_of(ROOM).session.session_id != session


@pytest.mark.parametrize("left", [-(10**12), -1, True, "many", None])
def test_a_count_of_keys_that_is_none_makes_no_more_keys_than_are_wanted(bot: Device, left: object) -> None:
    news = key_news({"device_one_time_keys_count": {"signed_curve25519": left}})
    body = bot.machine.to_upload(news.left, has_fallback=None) or {}
    assert len(body.get("one_time_keys", {})) in (0, 50)


def test_nobody_is_given_keys_of_ours_that_came_from_somebody_else(bot: Device, ana: Device, eve: Device) -> None:
    bot.hear(*ana.share(bot))
    session = ana.machine.outgoing.session_of(ROOM).session.session_id
    bot.machine.judge(eve.user, eve.name, DeviceState.TRUSTED)
    request = KeyRequest(user=eve.user, device=eve.name, room=ROOM, session_id=session, id="1")
    assert bot.machine.outgoing.answer(request, bot.machine.outgoing.readers([eve.user])) == []


@pytest.mark.parametrize("membership", ["leave", "ban", "knock", None, []])
async def test_who_is_not_in_a_room_is_given_nothing(membership: object) -> None:
    wire = Slow()
    readers = EncryptionRecipients(wire=wire, me="@bot:x", trust_all=True, may_read=_yes, groups=lambda *_: ())  # type: ignore[arg-type]
    asking = asyncio.create_task(readers.of(ROOM))
    answer = members("@ana:x")
    answer["chunk"] += [{"state_key": "@eve:x", "content": {"membership": membership}}, 7, {"state_key": 7}]
    (await wire.question(0)).set_result(answer)
    assert await asking == {"@ana:x"}


@pytest.mark.parametrize("spoiled", ["content", "hash", "iv"])
def test_a_file_that_was_changed_on_its_way_is_not_opened(spoiled: str) -> None:
    ciphertext, secrets = seal_file(b"words" * 100)
    assert open_file(ciphertext, secrets) == b"words" * 100
    if spoiled == "content":
        ciphertext = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    if spoiled == "hash":
        secrets = replace(secrets, sha256="A" * 43)
    if spoiled == "iv":
        assert FileSecrets.from_json({**secrets.as_json("mxc://x/y"), "iv": "short"}) is None
        assert FileSecrets.from_json({**secrets.as_json("mxc://x/y"), "hashes": {}}) is None
        return
    with pytest.raises(Tampered):
        open_file(ciphertext, secrets)


# --- the store ---------------------------------------------------------------------------------------------------


def test_a_commit_that_fails_leaves_nothing_behind_and_nothing_stuck(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.db", b"k" * 32, busy_s=0.0)
    with contextlib.closing(sqlite3.connect(tmp_path / "keys.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM encrypted_rooms").fetchall()
        with pytest.raises(sqlite3.OperationalError), store.transaction():
            store.put_encrypted_rooms([ROOM])
        reader.execute("ROLLBACK")
    assert store.encrypted_rooms() == frozenset()
    with store.transaction():
        store.put_encrypted_rooms([ROOM])
    assert store.encrypted_rooms() == {ROOM}
    store.close()


# --- answers that are overtaken ----------------------------------------------------------------------------------


class Slow:
    """A homeserver whose answers are given when the test says so."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Json]] = []
        self._news = asyncio.Condition()

    async def call(self, *_: Any, **__: Any) -> Json:
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        async with self._news:
            self.asked.append(answer)
            self._news.notify_all()
        return await answer

    async def question(self, number: int) -> asyncio.Future[Json]:
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: len(self.asked) > number)
        return self.asked[number]


async def _yes(*_: Any) -> bool:
    return True


def members(*users: str) -> Json:
    return {"chunk": [{"state_key": user, "content": {"membership": "join"}} for user in users]}


async def test_who_leaves_while_it_is_asked_who_is_there_is_not_there() -> None:
    wire = Slow()
    readers = EncryptionRecipients(wire=wire, me="@bot:x", trust_all=True, may_read=_yes, groups=lambda *_: ())  # type: ignore[arg-type]
    asking = asyncio.create_task(readers.of(ROOM))
    first = await wire.question(0)
    readers.observe(ROOM, {"type": "m.room.member", "state_key": "@eve:x"})
    first.set_result(members("@ana:x", "@eve:x"))
    (await wire.question(1)).set_result(members("@ana:x"))
    assert await asking == {"@ana:x"}
    assert await readers.of(ROOM) == {"@ana:x"}


@pytest.mark.parametrize("asked_for", [0, 1, -5, True, "1", 10**400, 10**9, None])
async def test_a_room_cannot_have_sessions_of_no_length_or_of_any(asked_for: object) -> None:
    wire = Slow()
    readers = EncryptionRecipients(wire=wire, me="@bot:x", trust_all=True, may_read=_yes, groups=lambda *_: ())  # type: ignore[arg-type]
    asking = asyncio.create_task(readers.rotation(ROOM))
    state = {"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_msgs": asked_for, "rotation_period_ms": asked_for}
    (await wire.question(0)).set_result(state)
    found = await asking
    assert 10 <= found.messages <= 10_000
    assert 3600.0 <= found.seconds <= 30 * 86_400.0


async def test_a_room_whose_encryption_was_taken_back_stays_encrypted() -> None:
    wire = Slow()
    readers = EncryptionRecipients(wire=wire, me="@bot:x", trust_all=True, may_read=_yes, groups=lambda *_: ())  # type: ignore[arg-type]
    gone = MatrixRefusal(404, "M_NOT_FOUND", "no such event")
    for number, refusal in enumerate((None, gone)):
        readers.missed(ROOM)
        asking = asyncio.create_task(readers.rotation(ROOM))
        question = await wire.question(number)
        if refusal is None:
            question.set_result({})
        else:
            question.set_exception(refusal)
        assert await asking == Rotation()
    asking = asyncio.create_task(readers.rotation(ROOM))
    (await wire.question(2)).set_result({"algorithm": "m.none"})
    with pytest.raises(MessageRefused, match="does not know"):
        await asking


def test_only_the_state_of_a_room_says_that_it_is_encrypted() -> None:
    megolm = {"algorithm": "m.megolm.v1.aes-sha2"}
    assert encrypts({"type": "m.room.encryption", "state_key": "", "content": megolm})
    assert not encrypts({"type": "m.room.encryption", "content": megolm})
    assert not encrypts({"type": "m.room.encryption", "state_key": "another", "content": megolm})
    assert not encrypts({"type": "m.room.encrypted", "content": megolm})


async def test_a_room_is_known_to_be_encrypted_before_the_gap_of_another_is_read() -> None:
    rooms, known, again = Rooms(encrypts=True), list[bool | None](), asyncio.Event()
    state = {"type": "m.room.encryption", "state_key": "", "sender": "@ana:x", "event_id": "$e", "content": {}}
    gap = {"timeline": {"limited": True, "events": []}}
    joined = {"!gap:x": gap, ROOM: {"timeline": {"events": [state]}}}

    class Wire:
        async def call(self, _method: str, *path: str, **_: Any) -> Json:
            if path == ("sync",):
                if known:
                    again.set()
                    await asyncio.Event().wait()
                return {"next_batch": "2", "rooms": {"join": joined}}
            known.append(rooms.encrypted.get(ROOM))
            return {"chunk": []}

    async def sink(_: Any) -> None:
        pass

    given: Any = {"wire": Wire(), "sink": sink, "may_invite": _yes, "me": Me(user="@bot:x"), "named": (), "allowed": ()}
    levels = PowerLevels(server="x", steps=(), counts=lambda _: False, rooms=rooms)
    aliases = Aliases((), rooms, connector="matrix", clock=lambda: 0.0)
    receiver = SyncLoop(
        connector="matrix", aliases=aliases, levels=levels, rooms=rooms, random=lambda: 0.0, log_in_again="", **given
    )
    receiving = asyncio.create_task(receiver.run(SyncPosition(since="1", rooms=frozenset(joined)).encode()))
    await asyncio.wait_for(again.wait(), 30)
    receiving.cancel()
    await asyncio.wait([receiving])
    assert known
    assert set(known) == {True}


class Inline:
    """Runs what is to run with the keys in the test's own thread."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    async def run(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)


async def test_nobody_goes_on_with_devices_that_are_just_being_asked_for(bot: Device, tmp_path: Path) -> None:
    ana = Device(tmp_path, "@ana:x", "ANA")
    wire = Slow()
    given: Any = {"readers": None, "remarks": None, "wire": wire, "vault": Inline(bot.machine)}
    lists = DeviceLists(connector="matrix", rooms=Rooms(), clock=bot.clock, **given)
    first = asyncio.create_task(lists.update([ana.user]))
    answer = await wire.question(0)
    second = asyncio.create_task(lists.update([ana.user]))
    await asyncio.sleep(0)
    assert not second.done()
    # Overtaken by a change: it is asked again.
    lists.changed([ana.user])
    answer.set_result({"device_keys": {ana.user: {}}})
    (await wire.question(1)).set_result({"device_keys": {ana.user: {ana.name: ana.shown}}})
    await asyncio.gather(first, second)
    assert bot.known(ana).id == ana.name
    await lists.update([ana.user])
    assert len(wire.asked) == 2
    ana.store.close()


async def test_who_has_a_permission_by_a_rooms_levels_stays_pinned_where_they_are_said_to_have_left(
    bot: Device, ana: Device, eve: Device
) -> None:
    async def leads(_: str, groups: Sequence[str]) -> bool:
        return "level:50" in groups

    wire = Slow()
    given: Any = {"me": bot.user, "may_read": leads, "wire": wire}
    readers = EncryptionRecipients(
        groups=lambda room, user: ("level:50",) * ((room, user) == (ROOM, ana.user)), trust_all=False, **given
    )
    shared: Any = {"readers": readers, "remarks": None, "wire": wire, "vault": Inline(bot.machine)}
    lists = DeviceLists(connector="matrix", rooms=Rooms(), clock=bot.clock, **shared)
    lists.parted |= {ana.user, eve.user}
    dropping = asyncio.create_task(lists.drop_parted(["!other:x", ROOM]))
    for number in range(2):
        (await wire.question(number)).set_result(members(bot.user))
    await dropping
    assert {device.user for device in bot.store.devices()} == {ana.user}
    assert not lists.parted


async def test_whose_homeserver_is_silent_holds_nobody_up_with_each_message(bot: Device) -> None:
    wire, now = Slow(), 1_000.0
    given: Any = {"readers": None, "remarks": None, "wire": wire, "vault": Inline(bot.machine)}
    lists = DeviceLists(connector="matrix", rooms=Rooms(), clock=lambda: now, **given)
    looking = asyncio.create_task(lists.look_again("@eve:y"))
    (await wire.question(0)).set_result({"device_keys": {}, "failures": {"y": {}}})
    await looking
    assert not await asyncio.wait_for(lists.look_again("@eve:y"), 10)
    # Where they are said to have changed, and after a while, it is tried again.
    lists.changed(["@eve:y"])
    for number in (1, 2):
        looking = asyncio.create_task(lists.look_again("@eve:y"))
        (await wire.question(number)).set_result({"device_keys": {}})
        await looking
        now += 61.0


class Counting:
    """A homeserver that leaves out the count of one-time keys when it is zero, and keeps what it is given."""

    def __init__(self) -> None:
        self.bodies: list[Json] = []
        self.left = 0

    async def call(self, *_: Any, body: Json, **__: Any) -> Json:
        self.bodies.append(body)
        self.left += len(body.get("one_time_keys", {}))
        return {"one_time_key_counts": {"signed_curve25519": self.left} if self.left else {}}


async def test_a_homeserver_that_does_not_count_to_zero_is_given_new_keys_all_the_same(bot: Device) -> None:
    wire = Counting()
    given: Any = {"readers": None, "remarks": None, "wire": wire, "vault": Inline(bot.machine), "rooms": Rooms()}
    now = 1_000.0
    lists = DeviceLists(connector="matrix", clock=lambda: now, **given)
    encryption = Encryption(connector="matrix", lists=lists, clock=lambda: now, **given)
    await encryption.take(KeyNews(left=30), ())
    await encryption.upkeep()
    assert wire.bodies == []
    now += 60.0
    await encryption.take(KeyNews(), ())
    await encryption.upkeep()
    assert wire.bodies == []
    for _ in range(3):
        now += 300.0
        await encryption.take(KeyNews(), ())
        await encryption.upkeep()
    assert wire.left == 50
    # What is asked is asked with an empty hand.
    assert [len(body.get("one_time_keys", {})) for body in wire.bodies] == [0, 50, 0, 0]
