"""Encrypted rooms, on a real homeserver and with a real client at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connectors.contract.connector_protocol import (
    DeviceState,
    MessageRefused,
    NeedsPerson,
    NotReady,
    TryLater,
    UnknownDevice,
)
from connectors.contract.messages import (
    Edit,
    File,
    Message,
    OpenThread,
    React,
    Reaction,
    Redaction,
    Remark,
    Replace,
    Text,
)
from connectors.matrix import sync_loop
from connectors.matrix.connector import MatrixConnector
from connectors.matrix.crypto.olm_machine import Closed, DecryptedEvent
from connectors.matrix.encrypted_rooms import Encryption
from connectors.matrix.homeserver_client import HomeserverUnreachable
from tests.connectors.matrix.conftest import Bot, healthy, until
from tests.connectors.matrix.test_connector import joined
from tests.encrypted_operator import EncryptedOperator
from tests.operator_client import Operator, body, relation, thread_root
from tests.synapse import Synapse

pytestmark = pytest.mark.synapse

MEGOLM = {"algorithm": "m.megolm.v1.aes-sha2"}


@pytest.fixture
async def ana(synapse: Synapse, tmp_path: Path) -> AsyncIterator[EncryptedOperator]:
    async with EncryptedOperator(await synapse.register(prefix="ana"), tmp_path / "ana") as operator:
        yield operator


@pytest.fixture
async def bot(synapse: Synapse, tmp_path: Path, ana: EncryptedOperator) -> Bot:
    """A bot that encrypts, and knows Ana alone; not running."""
    account = await synapse.register(prefix="bot")
    return Bot(account, tmp_path / "bot", readers={ana.user_id}, encryption="required")


async def room_with(ana: Operator, bot: Bot, *others: str) -> str:
    room = await ana.create_room(invite=[bot.user_id, *others], encrypted=True)
    await joined(ana, room, bot)
    return room


def remarks(bot: Bot) -> list[str]:
    return [event.body.text for event in bot.supervisor.events if isinstance(event.body, Remark)]


async def remarked(bot: Bot, words: str) -> str:
    await bot.supervisor.until(lambda: any(words in text for text in remarks(bot)))
    return next(text for text in remarks(bot) if words in text)


# --- what plain rooms have, encrypted ----------------------------------------------------------------------------


async def test_everything_works_in_an_encrypted_room_and_the_server_reads_none_of_it(
    ana: EncryptedOperator, bot: Bot, tmp_path: Path
) -> None:
    async with bot.running() as connector:
        room = await room_with(ana, bot)
        said = await ana.say(room, "!ps")
        assert (await bot.supervisor.got(said)).body == Text(text="!ps")

        opened = await bot.say(room, OpenThread(title="coder0", message=Message(text="coder0 is up")), key="open-1")
        seen = await ana.wait_for(room, lambda event: body(event) == "coder0 is up")
        assert seen["event_id"] == opened.event_id
        thread = opened.conversation or ""
        threaded = await ana.say(room, "hello", thread=opened.event_id)
        assert (await bot.supervisor.got(threaded)).conversation == thread

        answer = await bot.say(thread, "working", key="answer")
        seen = await ana.wait_for(room, lambda event: body(event) == "working")
        assert thread_root(seen) == opened.event_id
        await bot.say(
            thread, Replace(target="answer", message=Message(text="done")), key="edit", target=answer.event_id
        )
        seen = await ana.wait_for(room, lambda event: body(event) == "done")
        assert relation(seen)["event_id"] == answer.event_id

        picture = tmp_path / "dot.png"
        picture.write_bytes(b"not really a picture")
        file = File(path=str(picture), name="dot.png", media_type="image/png", caption="a dot")
        sent = await bot.say(thread, file, key="file")
        seen = await ana.wait_for(room, lambda event: event["event_id"] == sent.event_id)
        assert (body(seen), await ana.attachment(seen)) == ("a dot", b"not really a picture")
        assert await ana.download(seen["content"]["file"]["url"]) != b"not really a picture"

        given = await ana.send_file(room, b"my picture", "my.png", "image/png", caption="look")
        text = (await bot.supervisor.got(given)).body
        assert isinstance(text, Text)
        assert text.text == "look"
        assert await connector.download(text.attachments[0], limit=100) == b"my picture"

        marked = await bot.say(room, React(target=said, key="✅"), key="mark", target=said)
        await ana.wait_for(room, lambda event: event["event_id"] == marked.event_id)
        reaction = await bot.supervisor.got(await ana.react(room, opened.event_id, "👍"))
        assert reaction.body == Reaction(target=opened.event_id, key="👍")
        edit = await bot.supervisor.got(await ana.edit(room, threaded, "goodbye"))
        assert edit.body == Edit(target=threaded, text="goodbye")
        redaction = await bot.supervisor.got(await ana.redact(room, threaded))
        assert redaction.body == Redaction(target=threaded)

        assert await bot.find(thread, "working", key="answer") == answer
        assert await bot.find(room, OpenThread(title="t", message=Message(text="t")), key="open-1") == opened
        assert await bot.find(room, "nothing", key="never-said") is None
        assert remarks(bot) == []
    shown = [event for event in await ana.wire(room) if event["type"] not in ("m.reaction", "m.room.redaction")]
    assert "m.room.message" not in {event["type"] for event in shown}
    assert "coder0" not in str([event["content"] for event in shown])
    folder = bot.folder / "state" / "keys"
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


async def sessions(ana: EncryptedOperator, room: str, sender: str) -> list[str]:
    """The group sessions in which somebody wrote, in order."""
    found = [
        event["content"]["session_id"]
        for event in await ana.wire(room)
        if event["sender"] == sender and event["type"] == "m.room.encrypted"
    ]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("messages", [3, pytest.param(60, marks=pytest.mark.slow)])
async def test_what_was_written_while_the_bot_was_away_is_read_once_and_in_order(
    ana: EncryptedOperator, bot: Bot, messages: int
) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "before"))
        await bot.say(room, "first", key="first")
    before = bot.supervisor.cursor
    for number in range(messages):
        await ana.say(room, f"away {number}")
    async with bot.running():
        await bot.supervisor.got(await ana.say(room, "back"))
        await bot.say(room, "second", key="second")
    # As after a crash before the cursor was durable: the same keys and the same messages come again.
    bot.supervisor.cursor = before
    async with bot.running():
        last = await ana.say(room, "again")
        await bot.supervisor.got(last)
        await bot.say(room, "second", key="second")
    assert bot.supervisor.texts == ["before", *(f"away {number}" for number in range(messages)), "back", "again"]
    assert remarks(bot) == []
    await ana.wait_for(room, lambda event: body(event) == "second")
    assert [body(event) for event in await ana.messages(room, bot.user_id)] == ["first", "second"]


# --- rooms that are not, or become, encrypted --------------------------------------------------------------------


async def test_a_room_that_becomes_encrypted_is_followed(
    ana: EncryptedOperator, synapse: Synapse, tmp_path: Path
) -> None:
    bot = Bot(await synapse.register(prefix="bot"), tmp_path / "bot", encryption="allowed")
    async with bot.running():
        room = await ana.create_room(invite=[bot.user_id])
        await joined(ana, room, bot)
        await bot.supervisor.got(await ana.say(room, "in the clear"))
        await bot.say(room, "plain", key="plain")
        still = await ana.say(room, "just before")
        await ana.set_state(room, "m.room.encryption", MEGOLM)
        sealed = await ana.say(room, "sealed")
        await bot.supervisor.got(still)
        await bot.supervisor.got(sealed)
        await bot.say(room, "secret", key="secret")
        await ana.send_plain(room, "!stop all")
        assert "without encryption" in await remarked(bot, ana.user_id)
        await bot.supervisor.got(await ana.say(room, "end"))
    async with bot.running():
        await bot.say(room, "secret too", key="secret-too")
    assert bot.supervisor.texts == ["in the clear", "just before", "sealed", "end"]
    await ana.wait_for(room, lambda event: body(event) == "secret too")
    own = [event for event in await ana.wire(room) if event["sender"] == bot.user_id and "state_key" not in event]
    assert [event["type"] for event in own] == ["m.room.message", "m.room.encrypted", "m.room.encrypted"]


async def test_where_encryption_is_required_the_bot_is_silent_in_other_rooms(ana: EncryptedOperator, bot: Bot) -> None:
    async with bot.running() as connector:
        room = await ana.create_room(invite=[bot.user_id])
        await joined(ana, room, bot)
        await ana.say(room, "!ps")
        await healthy(connector, lambda health: f"{room} is not encrypted" in health.detail)
        with pytest.raises(MessageRefused, match="not encrypted"):
            await bot.say(room, "hello", key="hello")
        await ana.set_state(room, "m.room.encryption", MEGOLM)
        await bot.supervisor.got(await ana.say(room, "now"))
        await bot.say(room, "hello", key="hello")
        await ana.wait_for(room, lambda event: body(event) == "hello")
        assert "not encrypted" not in (await connector.health()).detail
    assert bot.supervisor.texts == ["now"]


# --- who reads ---------------------------------------------------------------------------------------------------


async def test_who_has_no_permission_reads_nothing_and_who_loses_it_reads_no_more(
    ana: EncryptedOperator, bot: Bot, synapse: Synapse, tmp_path: Path
) -> None:
    async with EncryptedOperator(await synapse.register(prefix="ben"), tmp_path / "ben") as ben, bot.running():
        room = await room_with(ana, bot, ben.user_id)
        await ben.join(room)
        first = await bot.say(room, "for ana", key="1")
        await ana.wait_for(room, lambda event: body(event) == "for ana")
        assert bot.readers is not None
        bot.readers.add(ben.user_id)
        second = await bot.say(room, "for both", key="2")
        await ben.wait_for(room, lambda event: body(event) == "for both")
        bot.readers.discard(ben.user_id)
        third = await bot.say(room, "for ana again", key="3")
        await ana.wait_for(room, lambda event: body(event) == "for ana again")
        bot.readers.add(ben.user_id)
        await ana.kick(room, ben.user_id)
        fourth = await bot.say(room, "for who is there", key="4")
        await ana.wait_for(room, lambda event: body(event) == "for who is there")
        read = {event["event_id"] for event in await ben.events(room) if event["type"] == "m.room.message"}
        assert read == {second.event_id}
        assert {first.event_id, third.event_id, fourth.event_id}.isdisjoint(read)
        assert len(await sessions(ana, room, bot.user_id)) == 2


async def test_everybody_reads_where_the_settings_say_so(
    ana: EncryptedOperator, synapse: Synapse, tmp_path: Path
) -> None:
    bot = Bot(await synapse.register(prefix="bot"), tmp_path / "bot", readers=set(), encryption="allowed", trust="all")
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.say(room, "for all", key="1")
        await ana.wait_for(room, lambda event: body(event) == "for all")


async def test_the_devices_of_strangers_who_left_are_forgotten_and_those_of_others_are_not(
    synapse: Synapse, tmp_path: Path
) -> None:
    people = [
        EncryptedOperator(await synapse.register(prefix=name), tmp_path / name) for name in ("ana", "ben", "cy", "dee")
    ]
    async with people[0] as ana, people[1] as ben, people[2] as cy, people[3] as dee:
        given: dict[str, Any] = {"encryption": "allowed", "trust": "all"}
        bot = Bot(await synapse.register(prefix="bot"), tmp_path / "bot", readers={ana.user_id, cy.user_id}, **given)
        async with bot.running() as connector:

            async def known() -> set[str]:
                return {device.user for device in await connector.devices()} - {bot.user_id}

            room = await room_with(ana, bot, ben.user_id, cy.user_id, dee.user_id)
            for each in (ben, cy, dee):
                await each.join(room)
            await bot.say(room, "hello", key="1")
            assert await known() == {each.user_id for each in people}
            await connector.judge(dee.account.device_id, DeviceState.BLOCKED)
            for each in (cy, dee, ben):
                await ana.kick(room, each.user_id)

            async def gone() -> bool:
                return ben.user_id not in await known()

            await until(gone)
            assert await known() == {ana.user_id, cy.user_id, dee.user_id}


async def test_a_device_is_listed_blocked_and_forgotten(
    ana: EncryptedOperator, bot: Bot, synapse: Synapse, tmp_path: Path
) -> None:
    async with bot.running() as connector:
        room = await room_with(ana, bot)
        await bot.say(room, "one", key="1")
        own, device = await connector.devices()
        assert (own.user, own.id, own.own) == (bot.user_id, bot.account.device_id, True)
        await ana.wait_for(room, lambda event: body(event) == "one")
        # As Ana's client shows it.
        assert own.fingerprint == ana.nio.device_store[bot.user_id][own.id].ed25519
        with pytest.raises(UnknownDevice, match="Muster writes itself"):
            await connector.judge(own.id, DeviceState.BLOCKED)
        assert (device.user, device.id, device.fingerprint) == (ana.user_id, ana.account.device_id, ana.fingerprint)
        assert (device.standing, device.reads) == (DeviceState.SEEN, True)
        async with EncryptedOperator(await synapse.log_in(ana.account), tmp_path / "phone") as phone:
            await bot.say(room, "two", key="2")
            await phone.wait_for(room, lambda event: body(event) == "two")
            new = await remarked(bot, "A new device")
            assert phone.account.device_id in new
            stolen = await connector.judge(f"{ana.user_id}/{phone.account.device_id}", DeviceState.BLOCKED)
            assert (stolen.standing, stolen.reads) == (DeviceState.BLOCKED, False)
            third = await bot.say(room, "three", key="3")
            await ana.wait_for(room, lambda event: body(event) == "three")
            await phone.say(room, "!stop all")
            assert "blocked" in await remarked(bot, "is not accepted")
            await phone.sync()
            seen = {event["event_id"]: event["type"] for event in await phone.events(room)}
            assert seen[third.event_id] == "m.room.encrypted"
            trusted = await connector.judge(ana.account.device_id, DeviceState.TRUSTED)
            assert (trusted.standing, trusted.reads) == (DeviceState.TRUSTED, True)
            await connector.judge(phone.account.device_id, DeviceState.SEEN)
            phone.nio.olm.outbound_group_sessions.clear()
            await bot.supervisor.got(await phone.say(room, "mine again"))
        with pytest.raises(UnknownDevice, match="lists them"):
            await connector.judge("NOBODY", DeviceState.BLOCKED)
    assert bot.supervisor.texts == ["mine again"]


async def test_a_new_device_is_told_of_that_writes_before_the_bot_does(
    ana: EncryptedOperator, bot: Bot, synapse: Synapse, tmp_path: Path
) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.say(room, "one", key="1")
        assert remarks(bot) == []
    async with EncryptedOperator(await synapse.log_in(ana.account), tmp_path / "phone") as phone, bot.running():
        await bot.supervisor.got(await phone.say(room, "!ps"))
        assert phone.account.device_id in await remarked(bot, "A new device")
    async with bot.running():
        await bot.supervisor.got(await ana.say(room, "end"))
    assert len(remarks(bot)) == 1


async def test_a_device_that_was_logged_out_and_is_back_is_told_of_and_not_trusted_any_more(
    ana: EncryptedOperator, bot: Bot, synapse: Synapse, tmp_path: Path
) -> None:
    phone = await synapse.log_in(ana.account)

    async def standings() -> dict[str, DeviceState]:
        return {device.id: device.standing for device in await bot.connector.devices()}

    async with bot.running() as connector:
        room = await room_with(ana, bot)
        async with EncryptedOperator(phone, tmp_path / "phone") as before:
            await bot.supervisor.got(await before.say(room, "one"))
            await connector.judge(phone.device_id, DeviceState.TRUSTED)
            await before.log_out()

        async def logged_out() -> bool:
            await bot.say(room, "two", key=f"two-{len(await ana.wire(room))}")
            return phone.device_id not in await standings()

        await until(logged_out)
        again = await synapse.log_in(ana.account, device=phone.device_id)
        async with EncryptedOperator(again, tmp_path / "phone") as after:
            after.nio.olm.account.shared = False
            await after.upkeep()
            await bot.supervisor.got(await after.say(room, "three"))
            assert f"`{phone.device_id}`" in await remarked(bot, "had been logged out, appears again")
            assert (await standings())[phone.device_id] is DeviceState.SEEN
            await bot.say(room, "four", key="four")
            await after.wait_for(room, lambda event: body(event) == "four")
            await after.log_out()
        await until(logged_out)
        with pytest.raises(UnknownDevice):
            await connector.judge(phone.device_id, DeviceState.TRUSTED)
        # Whoever has it may have the homeserver show it again.
        stolen = await connector.judge(phone.device_id, DeviceState.BLOCKED)
        assert (stolen.id, stolen.standing, stolen.reads) == (phone.device_id, DeviceState.BLOCKED, False)


async def test_other_keys_under_a_devices_name_are_refused_until_an_admin_says_so(
    ana: EncryptedOperator, bot: Bot, tmp_path: Path
) -> None:
    async with bot.running() as connector:
        room = await room_with(ana, bot)
        await bot.say(room, "one", key="1")
        async with EncryptedOperator(ana.account, tmp_path / "again") as again:
            second = await until_refused(bot, connector, room)
            assert ana.account.device_id in await remarked(bot, "Other keys came")
            assert "matrix devices" in (await connector.health()).detail
            said = await again.say(room, "it is me")
            bot.later = 10.0
            assert "cannot be read" in await remarked(bot, "cannot be read")
            await again.sync()
            seen = {event["event_id"]: event["type"] for event in await again.events(room)}
            assert seen[second] == "m.room.encrypted"
            await connector.judge(ana.account.device_id, DeviceState.SEEN)
            await bot.say(room, "three", key="3")
            await again.wait_for(room, lambda event: body(event) == "three")
            # What waited for it is taken now.
            assert (await bot.supervisor.got(said)).body == Text(text="it is me")
            assert "matrix devices" not in (await connector.health()).detail


async def until_refused(bot: Bot, connector: MatrixConnector, room: str) -> str:
    """Say things until the bot has seen that a device changed; the first that it said then."""
    sent = ""
    for number in range(100):
        sent = (await bot.say(room, f"is it known {number}", key=f"known-{number}")).event_id
        if any(device.standing is DeviceState.CHANGED for device in await connector.devices()):
            return sent
    raise AssertionError("it never saw it")


# --- what cannot be read -----------------------------------------------------------------------------------------


async def test_what_cannot_be_read_is_said_once_asked_for_and_taken_when_its_key_comes(
    ana: EncryptedOperator, bot: Bot
) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "before"))
        await ana.withhold_keys(bot.user_id)
        lost = [await ana.say(room, f"lost {number}") for number in range(3)]
        regretted = await ana.say(room, "regretted")
        bot.later = 10.0
        assert ana.account.device_id in await remarked(bot, "cannot be read")
    async with bot.running():
        await ana.withhold_keys(bot.user_id, withhold=False)
        await bot.supervisor.got(await ana.redact(room, regretted))
        await bot.supervisor.got(await ana.say(room, "after"))
        await ana.hand_over_keys(room, bot.user_id)
        for event in lost:
            await bot.supervisor.got(event)
    async with bot.running():
        await bot.supervisor.got(await ana.say(room, "end"))
    assert bot.supervisor.texts == ["before", "after", "lost 0", "lost 1", "lost 2", "end"]
    assert len(remarks(bot)) == 1
    asked = [event for event in ana.nio.olm.received_key_requests.values()]
    assert asked == [] or {event.sender for event in asked} == {bot.user_id}


async def test_what_is_read_late_counts_as_it_was_when_it_was_said(
    ana: EncryptedOperator, synapse: Synapse, tmp_path: Path
) -> None:
    async with EncryptedOperator(await synapse.register(prefix="bo"), tmp_path / "bo") as bo:
        room = await ana.create_room(invite=[bo.user_id], encrypted=True)
        await bo.join(room)
        await ana.set_power(room, bo.user_id, 50)
        account = await synapse.register(prefix="bot")
        levels = {"operator": 50, "admin": 100}
        bot = Bot(account, tmp_path / "bot", fleet_rooms=[room], power_levels=levels, encryption="required")
        bot.readers = {ana.user_id, bo.user_id}
        async with bot.running():
            await ana.invite(room, bot.user_id)
            await joined(ana, room, bot)
            assert (await bot.supervisor.got(await bo.say(room, "hello"))).groups == ("level:50",)
            await bo.withhold_keys(bot.user_id)
            early = await bo.say(room, "!operator set everybody admin")
            bot.later = 10.0
            await remarked(bot, "cannot be read")
            await ana.set_power(room, bo.user_id, 100)
            await bo.withhold_keys(bot.user_id, withhold=False)
            assert (await bot.supervisor.got(await bo.say(room, "after"))).groups == ("level:50", "level:100")
            await bo.hand_over_keys(room, bot.user_id)
            assert (await bot.supervisor.got(early)).groups == ("level:50",)


async def test_a_key_that_comes_hours_later_opens_nothing_any_more(ana: EncryptedOperator, bot: Bot) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "before"))
        await ana.withhold_keys(bot.user_id)
        await ana.say(room, "!stop all")
        bot.later = 10.0
        await remarked(bot, "cannot be read")
        bot.later = 2 * 3600.0
        await ana.hand_over_keys(room, bot.user_id)
        await ana.withhold_keys(bot.user_id, withhold=False)
        await bot.supervisor.got(await ana.say(room, "after"))
    async with bot.running():
        await bot.supervisor.got(await ana.say(room, "end"))
    assert bot.supervisor.texts == ["before", "after", "end"]


async def test_a_homeserver_can_neither_put_words_into_mouths_nor_say_them_twice(
    ana: EncryptedOperator, bot: Bot, synapse: Synapse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Encryption] = []
    start = Encryption.start

    async def noted(self: Encryption) -> None:
        await start(self)
        started.append(self)

    monkeypatch.setattr(Encryption, "start", noted)
    async with EncryptedOperator(await synapse.register(prefix="eve"), tmp_path / "eve") as eve, bot.running():
        room = await room_with(ana, bot, eve.user_id)
        await eve.join(room)
        words = await bot.supervisor.got(await ana.say(room, "!stop coder0"))
        others = await bot.supervisor.got(await eve.say(room, "!stop all"))
        wire = {event["event_id"]: event for event in await ana.wire(room)}
        (encryption,) = started

        async def tried(event: dict[str, Any], **changes: Any) -> Any:
            return await encryption.vault.run(encryption.vault.machine.open, room, {**event, **changes})

        assert isinstance(await tried(wire[words.event_id]), DecryptedEvent)
        forged = await tried(wire[others.event_id], sender=ana.user_id)
        assert isinstance(forged, Closed)
        assert "does not list" in forged.reason
        again = await tried(wire[words.event_id], event_id="$again")
        assert isinstance(again, Closed)
        assert "repeats" in again.reason
        elsewhere = await encryption.vault.run(encryption.vault.machine.open, "!other:x", wire[words.event_id])
        assert isinstance(elsewhere, Closed)
        content = wire[words.event_id]["content"]
        garbled = await tried(
            wire[words.event_id], content={**content, "ciphertext": content["ciphertext"][:-4] + "AAAA"}
        )
        assert isinstance(garbled, Closed)


async def test_a_file_that_is_not_encrypted_as_it_should_be_is_refused_with_its_message(
    ana: EncryptedOperator, bot: Bot
) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "before"))
        address = await ana.upload(b"!stop all", "orders.txt", "text/plain")
        plain: dict[str, Any] = {"msgtype": "m.file", "filename": "orders.txt", "info": {"mimetype": "text/plain"}}
        await ana.say(room, "do this", **plain, url=address)
        assert "encrypts files" in await remarked(bot, "its file is not encrypted")
        await ana.say(room, "and this", **plain, file={"url": address, "v": "v1"})
        await remarked(bot, "is not v2")
        # Also where its key comes later.
        await ana.withhold_keys(bot.user_id)
        await ana.say(room, "late", **plain, url=address)
        bot.later = 10.0
        await remarked(bot, "its key did not come")
        await ana.withhold_keys(bot.user_id, withhold=False)
        await ana.hand_over_keys(room, bot.user_id)
        await bot.supervisor.until(lambda: sum("its file is not encrypted" in text for text in remarks(bot)) == 2)
        given = await bot.supervisor.got(await ana.send_file(room, b"words", "a.txt", "text/plain", caption="after"))
        assert isinstance(given.body, Text)
        assert len(given.body.attachments) == 1
    assert bot.supervisor.texts == ["before", "after"]


async def test_nonsense_from_device_to_device_does_no_harm(ana: EncryptedOperator, bot: Bot) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        device = bot.account.device_id
        shown = await ana.call("POST", "keys/query", {"device_keys": {bot.user_id: []}})
        own = shown["device_keys"][bot.user_id][device]["keys"][f"curve25519:{device}"]
        olm = {"algorithm": "m.olm.v1.curve25519-aes-sha2", "sender_key": "A" * 43}
        for content in (
            {},
            olm,
            {**olm, "ciphertext": {own: {"type": 0, "body": "AAAA"}}},
            {**olm, "ciphertext": {own: {"type": 1, "body": "not base64 ***"}}},
            {**olm, "ciphertext": {own: {"type": [], "body": 7}}},
            {**olm, "sender_key": ["x"], "ciphertext": []},
        ):
            await ana.to_device("m.room.encrypted", bot.user_id, device, content)
        for content in ({}, {"action": "request", "body": []}, {"action": "request", "requesting_device_id": {}}):
            await ana.to_device("m.room_key_request", bot.user_id, device, content)
        await bot.supervisor.got(await ana.say(room, "still there"))
        await bot.say(room, "yes", key="yes")
        await ana.wait_for(room, lambda event: body(event) == "yes")


# --- keys --------------------------------------------------------------------------------------------------------


async def test_a_new_device_that_asks_reads_what_was_said_before_it_only_when_an_admin_trusts_it(
    ana: EncryptedOperator, bot: Bot, synapse: Synapse, tmp_path: Path
) -> None:
    async with EncryptedOperator(await synapse.register(prefix="ben"), tmp_path / "ben") as ben, bot.running() as it:
        room = await room_with(ana, bot, ben.user_id)
        await ben.join(room)
        sent = await bot.say(room, "one", key="1")
        (session,) = await sessions(ana, room, bot.user_id)

        async def ask(person: EncryptedOperator, number: str) -> None:
            await person.sync(timeout=0)
            content = {
                "action": "request",
                "requesting_device_id": person.account.device_id,
                "request_id": number,
                "body": {"algorithm": MEGOLM["algorithm"], "room_id": room, "session_id": session},
            }
            await person.to_device("m.room_key_request", bot.user_id, bot.account.device_id, content)

        async with EncryptedOperator(await synapse.log_in(ana.account), tmp_path / "phone") as phone:
            await ask(ben, "1")
            await ask(phone, "1")
            # Whatever was asked has been seen to by then.
            await bot.supervisor.got(await ana.say(room, "hello"))
            await bot.supervisor.got(await ana.say(room, "hello again"))
            await bot.say(room, "two", key="2")
            await phone.wait_for(room, lambda event: body(event) == "two")
            assert "one" not in {body(event) for event in await phone.events(room)}
            await it.judge(phone.account.device_id, DeviceState.TRUSTED)
            await ask(phone, "2")
            await phone.wait_for(room, lambda event: event["event_id"] == sent.event_id and body(event) == "one")
            await ben.sync(timeout=1)
            seen = [event for event in await ben.events(room) if event["sender"] == bot.user_id]
            assert "m.room.message" not in {event["type"] for event in seen}


async def test_anybody_can_write_what_looks_encrypted_in_a_room_and_changes_nothing(
    ana: EncryptedOperator, synapse: Synapse, tmp_path: Path
) -> None:
    bot = Bot(await synapse.register(prefix="bot"), tmp_path / "bot", readers={ana.user_id}, encryption="allowed")
    async with EncryptedOperator(await synapse.register(prefix="eve"), tmp_path / "eve") as eve:
        async with bot.running():
            room = await ana.create_room(invite=[bot.user_id, eve.user_id])
            await eve.join(room)
            await joined(ana, room, bot)
            sealed = {"algorithm": MEGOLM["algorithm"], "session_id": "s", "ciphertext": "AwgA", "sender_key": "k"}
            await eve.send(room, sealed, "m.room.encrypted")
            await bot.supervisor.got(await ana.say(room, "!ps"))
            await bot.say(room, "all is well", key="1")
        async with bot.running():
            await bot.say(room, "still", key="2")
    await ana.wait_for(room, lambda event: body(event) == "still")
    own = [event for event in await ana.wire(room) if event["sender"] == bot.user_id and "state_key" not in event]
    assert [event["type"] for event in own] == ["m.room.message"] * 2


async def test_what_came_late_is_not_lost_when_the_rest_of_a_sync_fails(
    ana: EncryptedOperator, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_loop, "pause", lambda *_: 0.0)
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "before"))
        await ana.withhold_keys(bot.user_id)
        lost = await ana.say(room, "lost")
        bot.later = 10.0
        await remarked(bot, "cannot be read")
        failed: list[Any] = []
        late = Encryption.late

        async def opened_and_then_gone(self: Encryption) -> list[tuple[str, Any]]:
            found = await late(self)
            if found and not failed:
                failed.append(found)
                raise HomeserverUnreachable("as a page of the history that does not come")
            return found

        monkeypatch.setattr(Encryption, "late", opened_and_then_gone)
        await ana.withhold_keys(bot.user_id, withhold=False)
        await ana.hand_over_keys(room, bot.user_id)
        await bot.supervisor.got(lost)
    assert failed
    assert bot.supervisor.texts == ["before", "lost"]


async def test_one_time_keys_are_made_anew_before_they_run_out(ana: EncryptedOperator, bot: Bot) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        device = bot.account.device_id
        seen: list[str] = []

        async def claim() -> bool:
            wanted = {"one_time_keys": {bot.user_id: {device: "signed_curve25519"}}}
            found = (await ana.call("POST", "keys/claim", wanted))["one_time_keys"][bot.user_id][device]
            (key,) = found.values()
            if not key.get("fallback"):
                seen.append(key["key"])
            if len(seen) % 20 == 0:
                # Homeservers wake nobody up for that alone.
                await ana.say(room, "hello")
            return len(set(seen)) > 80

        await until(claim)
        assert len(seen) == len(set(seen))
        await bot.supervisor.got(await ana.say(room, "hello"))


@pytest.mark.slow
async def test_who_finds_no_one_time_key_left_is_heard_all_the_same(
    ana: EncryptedOperator, bot: Bot, synapse: Synapse, tmp_path: Path
) -> None:
    device = bot.account.device_id
    wanted = {"one_time_keys": {bot.user_id: {device: "signed_curve25519"}}}

    async def claimed() -> dict[str, Any]:
        found = (await ana.call("POST", "keys/claim", wanted))["one_time_keys"][bot.user_id][device]
        (key,) = found.values()
        return dict(key)

    async with bot.running():
        room = await room_with(ana, bot)
    while not (key := await claimed()).get("fallback"):
        pass
    async with EncryptedOperator(await synapse.log_in(ana.account), tmp_path / "phone") as phone:
        said = await phone.say(room, "is anybody there?")
        async with bot.running():
            await bot.supervisor.got(said)

            async def renewed() -> bool:
                # Homeservers wake nobody up for that alone.
                await ana.say(room, "hello")
                return bool((await claimed())["key"] != key["key"])

            await until(renewed)
    assert remarks(bot) == []


async def test_two_devices_that_lost_touch_begin_a_new_session(ana: EncryptedOperator, bot: Bot) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "before"))
        # The bot answers in it, so that Ana's device takes it for one that both have.
        await bot.say(room, "one", key="1")
        await ana.wait_for(room, lambda event: body(event) == "one")
        (file,) = (bot.folder / "state" / "keys").glob("*.db")
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as keys:
            assert keys.execute("DELETE FROM olm_sessions").rowcount > 0

        async def heard() -> bool:
            ana.nio.olm.outbound_group_sessions.clear()
            said = await ana.say(room, "after")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await bot.supervisor.got(said)
            return "after" in bot.supervisor.texts

        await until(heard)
        await bot.say(room, "two", key="2")
        await ana.wait_for(room, lambda event: body(event) == "two")


async def test_keys_that_cannot_be_written_stop_the_connector_and_nothing_else(
    ana: EncryptedOperator, bot: Bot
) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "before"))
    (file,) = (bot.folder / "state" / "keys").glob("*.db")
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        # Nothing is lost: it goes on by itself, and nobody is told to make a new device.
        with pytest.raises(NotReady, match="cannot be written or read"):
            async with bot.running():
                pass
        other.execute("ROLLBACK")
    async with bot.running():
        await bot.supervisor.got(await ana.say(room, "after"))


async def test_a_group_session_ends_when_the_room_says(ana: EncryptedOperator, bot: Bot) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await ana.set_state(room, "m.room.encryption", MEGOLM | {"rotation_period_msgs": 10})
        for number in range(12):
            await bot.say(room, f"message {number}", key=f"m{number}")
        await ana.wait_for(room, lambda event: body(event) == "message 11")
        assert len(await sessions(ana, room, bot.user_id)) == 2


@pytest.mark.slow
async def test_lost_keys_are_noticed_and_never_replaced_under_the_same_name(
    ana: EncryptedOperator, bot: Bot, synapse: Synapse, tmp_path: Path
) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "before"))
        await bot.say(room, "one", key="1")
    folder = bot.folder / "state" / "keys"
    aside = tmp_path / "aside"
    (store,) = folder.glob("*.db")
    for spoil in (
        lambda: shutil.rmtree(folder),
        lambda: store.unlink(),
        lambda: store.write_bytes(b""),
        lambda: store.write_bytes(b"no database" * 1000),
        lambda: (folder / "pickle.key").write_text("00" * 32),
        lambda: (folder / "pickle.key").unlink(),
    ):
        shutil.copytree(folder, aside)
        spoil()
        with pytest.raises(NeedsPerson, match=r"keys of the device .* are lost.*To make a new device, log in"):
            async with bot.running():
                pass
        assert "are lost" in (await bot.connector.health()).detail
        with pytest.raises(TryLater, match="are lost"):
            await bot.say(room, "two", key="2")
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    async with bot.running():
        await bot.say(room, "two", key="2")

    # A new device, as the sentence says: a new token.
    new = await synapse.log_in(bot.account)
    (bot.folder / "token").write_text(new.access_token)
    missed = await ana.say(room, "missed")
    async with bot.running():
        assert new.device_id in await remarked(bot, "new device")
        await bot.say(room, "three", key="3")
        await ana.wait_for(room, lambda event: body(event) == "three")
        assert missed not in {event.event_id for event in bot.supervisor.events}
        bot.later = 10.0
        await remarked(bot, "cannot be read")
        await bot.supervisor.got(await ana.say(room, "after"))
    assert bot.supervisor.texts == ["before", "after"]


async def test_a_device_whose_keys_are_gone_is_not_made_anew_under_its_name(synapse: Synapse, tmp_path: Path) -> None:
    bot = Bot(await synapse.register(prefix="bot"), tmp_path / "bot", encryption="allowed")
    async with bot.running():
        pass
    elsewhere = Bot(bot.account, tmp_path / "elsewhere", encryption="allowed")
    with pytest.raises(NeedsPerson, match="are lost"):
        async with elsewhere.running():
            pass
    # Somebody ended the log-in, with which the homeserver forgot the device, and logged in as it again.
    async with Operator(bot.account) as same:
        await same.log_out()
    again = await synapse.log_in(bot.account, device=bot.account.device_id)
    (bot.folder / "token").write_text(again.access_token)
    async with bot.running():
        pass
    async with Operator(again) as same:
        await same.log_out()
    again = await synapse.log_in(bot.account, device=bot.account.device_id)
    (bot.folder / "token").write_text(again.access_token)
    shutil.rmtree(bot.folder / "state" / "keys")
    with pytest.raises(NeedsPerson, match="are lost"):
        async with bot.running():
            pass
