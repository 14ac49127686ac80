from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.contract.connector_protocol import MessageRefused, NeedsPerson, NotReady, TryLater
from connectors.contract.messages import (
    Attachment,
    Edit,
    Emphasis,
    File,
    Message,
    OpenThread,
    React,
    Reaction,
    Redaction,
    Replace,
    Text,
)
from connectors.matrix.sync_response import SyncPosition
from tests.connectors.matrix.conftest import Bot, healthy, until
from tests.operator_client import Operator, body, relation, thread_root
from tests.synapse import DEFAULT, Synapse

pytestmark = pytest.mark.synapse

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000 1f15c4890000000d49444154789c6360000002000001"
    "0001e221bc330000000049454e44ae426082".replace(" ", "")
)


@pytest.fixture
async def ana(synapse: Synapse) -> AsyncIterator[Operator]:
    async with Operator(await synapse.register(prefix="ana")) as operator:
        yield operator


async def room_with(ana: Operator, bot: Bot) -> str:
    """A room into which the operator invited the running bot, which came."""
    room = await ana.create_room(invite=[bot.user_id])
    await joined(ana, room, bot)
    return room


async def joined(ana: Operator, room: str, bot: Bot) -> None:
    async def there() -> bool:
        return await ana.membership(room, bot.user_id) == "join"

    await until(there)


# --- what comes in -----------------------------------------------------------------------------------------------


async def test_what_people_write_react_edit_and_take_back_comes_in_as_such(ana: Operator, bot: Bot) -> None:
    async with bot.running() as connector:
        room = await room_with(ana, bot)
        said = await ana.say(room, "!ps")
        event = await bot.supervisor.got(said)
        assert event.body == Text(text="!ps")
        assert (event.conversation, event.parent, event.identity) == (room, None, f"matrix:{ana.user_id}")

        opened = await bot.say(room, OpenThread(title="coder0", message=Message(text="coder0 is up")), key="open-1")
        assert opened.conversation == f"{room}|{opened.event_id}"
        threaded = await ana.say(room, "hello", thread=opened.event_id)
        event = await bot.supervisor.got(threaded)
        assert (event.conversation, event.parent) == (opened.conversation, room)

        reaction = await bot.supervisor.got(await ana.react(room, opened.event_id, "👍"))
        assert reaction.body == Reaction(target=opened.event_id, key="👍")
        assert reaction.conversation == opened.conversation

        edit = await bot.supervisor.got(await ana.edit(room, threaded, "goodbye"))
        assert edit.body == Edit(target=threaded, text="goodbye")
        redaction = await bot.supervisor.got(await ana.redact(room, threaded))
        assert redaction.body == Redaction(target=threaded)
        assert (edit.conversation, redaction.conversation) == (opened.conversation, opened.conversation)

        assert bot.supervisor.texts == ["!ps", "hello"]
        assert (await connector.health()).detail.startswith("Connected to http://127.0.0.1")


async def test_our_own_words_and_other_bots_notices_are_no_input(ana: Operator, bot: Bot) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.say(room, Message(text="!ps", emphasis=Emphasis.TEXT), key="own")
        await ana.say(room, "!ps", msgtype="m.notice")
        await bot.supervisor.got(await ana.say(room, "done"))
        assert bot.supervisor.texts == ["done"]


async def test_a_mention_is_noticed_and_left_out_of_the_text(ana: Operator, synapse: Synapse, tmp_path: Path) -> None:
    bot = Bot(await synapse.register(prefix="bot"), tmp_path / "bot", display_name="Muster")
    async with bot.running():
        room = await room_with(ana, bot)
        named: dict[str, Any] = {"m.mentions": {"user_ids": [bot.user_id]}}
        mention = await ana.say(room, "Muster: who is up?", **named)
        assert (await bot.supervisor.got(mention)).body == Text(text="who is up?", mentions_us=True)


async def test_a_picture_is_fetched_up_to_the_limit(ana: Operator, bot: Bot) -> None:
    async with bot.running() as connector:
        room = await room_with(ana, bot)
        sent = await ana.send_file(room, PICTURE, "dot.png", "image/png", caption="what is this?")
        seen = (await bot.supervisor.got(sent)).body
        assert isinstance(seen, Text)
        assert seen.text == "what is this?"
        (attachment,) = seen.attachments
        assert (attachment.name, attachment.media_type, attachment.size) == ("dot.png", "image/png", len(PICTURE))
        assert await connector.download(attachment, limit=10_000) == PICTURE
        with pytest.raises(MessageRefused, match="larger than"):
            await connector.download(attachment, limit=len(PICTURE) - 1)
        with pytest.raises(MessageRefused, match="does not know"):
            await connector.download(
                Attachment(ref=attachment.ref + "x", name="x", media_type="image/png"), limit=10_000
            )


async def test_what_was_said_before_the_first_start_or_before_we_joined_does_not_count(ana: Operator, bot: Bot) -> None:
    old = await ana.create_room(public=True, invite=[bot.user_id])
    await ana.say(old, "!stop before the first start")
    async with bot.running():
        await joined(ana, old, bot)
        await bot.supervisor.got(await ana.say(old, "after the join"))
        other = await ana.create_room(public=True)
        for number in range(70):
            await ana.say(other, f"!stop before the join {number}")
        await ana.invite(other, bot.user_id)
        await joined(ana, other, bot)
        await bot.supervisor.got(await ana.say(other, "after the other join"))
    async with bot.running():
        await bot.supervisor.got(await ana.say(old, "after a restart"))
    assert bot.supervisor.texts == ["after the join", "after the other join", "after a restart"]


@pytest.mark.slow
async def test_a_burst_while_we_were_down_comes_in_whole_and_in_order(ana: Operator, bot: Bot) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "begin"))
    for number in range(230):
        await ana.say(room, f"number {number}")
    async with bot.running():
        await bot.supervisor.got(await ana.say(room, "end"))
    assert bot.supervisor.texts == ["begin", *(f"number {number}" for number in range(230)), "end"]
    assert bot.supervisor.largest <= 100


async def test_a_cursor_that_was_not_made_durable_brings_the_same_again(ana: Operator, bot: Bot) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "begin"))
        before = bot.supervisor.cursor
        await bot.supervisor.got(await ana.say(room, "once"))
    bot.supervisor.cursor = before
    async with bot.running():
        await bot.supervisor.got(await ana.say(room, "end"))
    assert bot.supervisor.texts == ["begin", "once", "end"]


@pytest.mark.slow
@pytest.mark.parametrize("earlier", [0, 70])
async def test_what_was_said_before_we_were_thrown_out_still_counts(ana: Operator, bot: Bot, earlier: int) -> None:
    async with bot.running():
        elsewhere, room = await room_with(ana, bot), await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "begin"))
    for number in range(earlier):
        await ana.say(room, f"number {number}")
    await ana.say(room, "!stop coder0")
    await ana.kick(room, bot.user_id)
    await ana.say(room, "!stop after the kick")
    async with bot.running():
        await bot.supervisor.got(await ana.say(elsewhere, "end"))
        with pytest.raises(TryLater, match="invite it"):
            await bot.say(room, "stopped", key="reply")
    numbers = [f"number {number}" for number in range(earlier)]
    assert bot.supervisor.texts == ["begin", *numbers, "!stop coder0", "end"]


@pytest.mark.slow
async def test_a_ban_hides_what_is_too_old_for_a_sync_and_that_is_told(ana: Operator, bot: Bot) -> None:
    async with bot.running():
        elsewhere, room = await room_with(ana, bot), await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "begin"))
    for number in range(70):
        await ana.say(room, f"number {number}")
    await ana.say(room, "!stop coder0")
    await ana.ban(room, bot.user_id)
    async with bot.running() as connector:
        await bot.supervisor.got(await ana.say(elsewhere, "end"))
        assert f"Messages in {room} were missed" in (await connector.health()).detail
    assert bot.supervisor.texts[0] == "begin"
    assert bot.supervisor.texts[-2:] == ["!stop coder0", "end"]


@pytest.mark.slow
@pytest.mark.parametrize("between", [0, 70])
async def test_what_was_said_while_we_were_thrown_out_does_not_count(ana: Operator, bot: Bot, between: int) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "begin"))
    await ana.say(room, "!stop coder0")
    await ana.kick(room, bot.user_id)
    for number in range(between):
        await ana.say(room, f"!stop after the kick {number}")
    await ana.invite(room, bot.user_id)
    for number in range(between):
        await ana.say(room, f"!stop after the invitation {number}")
    async with bot.running():
        await joined(ana, room, bot)
        await bot.supervisor.got(await ana.say(room, "end"))
    assert bot.supervisor.texts == ["begin", "!stop coder0", "end"]


@pytest.mark.slow
async def test_what_was_said_before_an_invitation_that_waited_does_not_count(
    ana: Operator, synapse: Synapse, bot: Bot
) -> None:
    async with Operator(await synapse.register(prefix="eve")) as eve:
        async with bot.running():
            elsewhere, room = await room_with(ana, bot), await room_with(eve, bot)
            await bot.supervisor.got(await eve.say(room, "begin"))
        await eve.kick(room, bot.user_id)
        await eve.invite(room, bot.user_id)
        bot.inviters = {ana.user_id}
        async with bot.running():
            await bot.supervisor.got(await ana.say(elsewhere, "middle"))
        for number in range(70):
            await eve.say(room, f"!stop while we were out {number}")
        bot.inviters.add(eve.user_id)
        async with bot.running():
            await joined(eve, room, bot)
            await bot.supervisor.got(await eve.say(room, "end"))
        assert bot.supervisor.texts == ["begin", "middle", "end"]


@pytest.mark.parametrize("between", [0, 70])
async def test_what_did_not_count_then_does_not_count_when_we_are_invited_again(
    ana: Operator, bot: Bot, between: int
) -> None:
    room = await ana.create_room(invite=[bot.user_id])
    async with Operator(bot.account) as itself:
        await itself.join(room)
    await ana.say(room, "!stop before the first start")
    async with bot.running():
        await bot.supervisor.got(await ana.say(room, "begin"))
        await ana.kick(room, bot.user_id)

        async def outside() -> bool:
            assert bot.supervisor.cursor is not None
            return room not in SyncPosition.decode(bot.supervisor.cursor).rooms

        await until(outside)
        # As after so long that nobody remembers what was heard.
        bot.supervisor.forget()
        await ana.say(room, "!stop while we were out")
        await ana.invite(room, bot.user_id)
        await joined(ana, room, bot)
        for number in range(between):
            await ana.say(room, f"number {number}")
        await bot.supervisor.got(await ana.say(room, "end"))
    assert bot.supervisor.texts == [*(f"number {number}" for number in range(between)), "end"]


async def test_only_an_operators_invitation_is_accepted(ana: Operator, synapse: Synapse, bot: Bot) -> None:
    bot.inviters = set()
    async with Operator(await synapse.register(prefix="eve")) as eve:
        async with bot.running() as connector:
            room = await eve.create_room(invite=[bot.user_id])
            await healthy(connector, lambda health: "is no operator" in health.detail)
            bot.inviters = {ana.user_id}
            await room_with(ana, bot)
            assert await eve.membership(room, bot.user_id) == "invite"
        # Made an operator later, eve need not invite again.
        bot.inviters.add(eve.user_id)
        async with bot.running():
            await room_with(ana, bot)
            await joined(eve, room, bot)


# --- what goes out -----------------------------------------------------------------------------------------------


async def test_messages_stand_in_their_threads_with_rich_and_plain_text(ana: Operator, bot: Bot) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        asked = await ana.say(room, "!launch coder0")
        opened = await bot.say(room, OpenThread(title="coder0", message=Message(text="up")), key="open")
        assert opened.conversation is not None
        first = await bot.say(
            opened.conversation,
            Message(text="**done** @room", html="<b>done</b> @room", emphasis=Emphasis.TEXT),
            key="a",
        )
        second = await bot.say(opened.conversation, "aside", key="b")
        reply = await bot.say(room, Message(text="yes", reply_to=asked), key="c")

        event = await ana.wait_for(room, lambda event: event["event_id"] == first.event_id)
        assert thread_root(event) == opened.event_id
        assert relation(event)["is_falling_back"] is True
        assert relation(event)["m.in_reply_to"] == {"event_id": opened.event_id}
        assert event["content"]["msgtype"] == "m.text"
        assert event["content"]["formatted_body"].startswith("<b>done</b>")
        assert "@room" not in event["content"]["body"] + event["content"]["formatted_body"]
        assert event["content"]["m.mentions"] == {}
        event = await ana.wait_for(room, lambda event: event["event_id"] == second.event_id)
        assert event["content"]["msgtype"] == "m.notice"
        assert relation(event)["m.in_reply_to"] == {"event_id": first.event_id}
        event = await ana.wait_for(room, lambda event: event["event_id"] == reply.event_id)
        assert relation(event) == {"m.in_reply_to": {"event_id": asked}}


async def test_edits_and_reactions_of_ours_are_seen(ana: Operator, bot: Bot) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        asked = await ana.say(room, "hello")
        answer = await bot.say(room, "wor", key="answer")
        edit = await bot.say(
            room, Replace(target="answer", message=Message(text="working " * 4000)), key="edit", target=answer.event_id
        )
        event = await ana.wait_for(room, lambda event: event["event_id"] == edit.event_id)
        assert relation(event) == {"rel_type": "m.replace", "event_id": answer.event_id}
        assert body(event) == "working " * 4000

        reaction = React(target=asked, key="✅")
        seen = await bot.say(room, reaction, key="receipt", target=asked)
        event = await ana.wait_for(room, lambda event: event["event_id"] == seen.event_id)
        assert relation(event) == {"rel_type": "m.annotation", "event_id": asked, "key": "✅"}
        again = await bot.say(room, reaction, key="receipt-under-another-key", target=asked)
        assert again.event_id == seen.event_id


async def test_a_file_arrives_with_its_caption(ana: Operator, bot: Bot, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("line\n" * 10_000)
    async with bot.running():
        room = await room_with(ana, bot)
        file = File(path=str(path), name="log.txt", media_type="text/plain", caption="the whole log")
        sent = await bot.say(room, file, key="file")
        event = await ana.wait_for(room, lambda event: event["event_id"] == sent.event_id)
        assert event["content"]["msgtype"] == "m.file"
        assert (event["content"]["body"], event["content"]["filename"]) == ("the whole log", "log.txt")
        assert await ana.download(event["content"]["url"]) == path.read_bytes()
        path.unlink()
        with pytest.raises(MessageRefused, match="cannot be read"):
            await bot.say(room, file, key="another")


@pytest.mark.slow
async def test_the_same_key_stands_once_and_is_found(ana: Operator, bot: Bot) -> None:
    key = f"answer/{secrets.token_hex(3)} #1"
    async with bot.running():
        room = await room_with(ana, bot)
        asked = await ana.say(room, "hello")
        assert await bot.find(room, "hello", key=key) is None
        first = await bot.say(room, "hello", key=key)
    async with bot.running():
        again = await bot.say(room, "hello", key=key)
        assert again == first
        opened = await bot.say(room, OpenThread(title="t", message=Message(text="t")), key="open")
        threaded = await bot.say(opened.conversation or "", "in the thread", key="threaded")
        receipt = await bot.say(room, React(target=asked, key="✅"), key="receipt", target=asked)
        for number in range(120):
            await ana.say(room, f"noise {number}")
        assert await bot.find(room, "hello", key=key) == first
        assert await bot.find(room, OpenThread(title="t", message=Message(text="t")), key="open") == opened
        assert await bot.find(opened.conversation or "", "in the thread", key="threaded") == threaded
        assert await bot.find(room, React(target=asked, key="✅"), key="receipt", target=asked) == receipt
        assert await bot.find(room, React(target=asked, key="❌"), key="other", target=asked) is None
    own = await ana.messages(room, bot.user_id)
    assert [body(event) for event in own] == ["hello", "t", "in the thread"]


async def test_typing_is_shown(ana: Operator, bot: Bot) -> None:
    async with bot.running() as connector:
        room = await room_with(ana, bot)
        await connector.typing(room, active=True)
        await ana.wait_for_typing(room, bot.user_id)
        await connector.typing(room, active=False)
        await connector.typing("!nowhere:muster.test", active=True)


# --- what goes wrong ---------------------------------------------------------------------------------------------


async def test_what_can_never_be_said_is_refused_with_a_sentence(ana: Operator, bot: Bot) -> None:
    async with bot.running():
        room = await room_with(ana, bot)
        # Its own sync tells the bot that it is in the room.
        await bot.supervisor.got(await ana.say(room, "hello"))
        with pytest.raises(MessageRefused, match="as a file"):
            await bot.say(room, "x" * 100_000, key="long")
        await ana.set_state(room, "m.room.power_levels", {"events_default": 50})
        with pytest.raises(MessageRefused, match="power level"):
            await bot.say(room, "hello", key="muted")
        await ana.set_state(room, "m.room.power_levels", {"events_default": 0})
        await bot.say(room, "c\0ntrol \ud800 characters", key="odd")


async def test_what_is_to_be_said_in_a_room_waits_for_the_bot_to_be_invited(ana: Operator, bot: Bot) -> None:
    async with bot.running() as connector:
        room = await ana.create_room()
        with pytest.raises(TryLater, match="invite it"):
            await bot.say(room, "hello", key="hello")
        await healthy(connector, lambda health: "invite it" in health.detail)
        await ana.invite(room, bot.user_id)
        await joined(ana, room, bot)
        await bot.say(room, "hello", key="hello")
        await healthy(connector, lambda health: "invite it" not in health.detail)
    assert [body(event) for event in await ana.messages(room, bot.user_id)] == ["hello"]


async def test_a_bot_that_cannot_speak_in_the_fleets_room_is_impaired(
    ana: Operator, synapse: Synapse, tmp_path: Path
) -> None:
    room = await ana.create_room(encrypted=True)
    bot = Bot(await synapse.register(prefix="bot"), tmp_path / "bot", fleet_rooms=(room,))
    async with bot.running() as connector:
        await healthy(connector, lambda health: f"not in {room}, the fleet's room: invite it" in health.detail)
        assert (await connector.health()).impaired
        await ana.invite(room, bot.user_id)
        await healthy(connector, lambda health: "invite it" not in health.detail and "is encrypted" in health.detail)
        assert (await connector.health()).impaired
    plain = await ana.create_room()
    bot = Bot(await synapse.register(prefix="bot"), tmp_path / "other", fleet_rooms=(plain,))
    async with bot.running() as connector:
        await ana.invite(plain, bot.user_id)
        await joined(ana, plain, bot)
        await healthy(connector, lambda health: "invite it" not in health.detail and not health.impaired)


async def test_what_waits_for_a_room_that_was_named_by_mistake_leaves_the_connector_well(
    ana: Operator, synapse: Synapse, tmp_path: Path
) -> None:
    wrong, room = await ana.create_room(), await ana.create_room()
    account = await synapse.register(prefix="bot")
    server = account.user_id.partition(":")[2]
    for mistaken in (wrong, f"#nowhere:{server}"):
        bot = Bot(account, tmp_path / "bot", fleet_rooms=(mistaken,))
        async with bot.running() as connector:
            await healthy(connector, lambda health: health.impaired)
            with pytest.raises(TryLater):
                await bot.say(mistaken, "hello", key="1")
    bot = Bot(account, tmp_path / "bot", fleet_rooms=(room,))
    async with bot.running() as connector:
        await ana.invite(room, bot.user_id)
        await joined(ana, room, bot)
        for mistaken in (wrong, f"#nowhere:{server}"):
            with pytest.raises(TryLater):
                await bot.say(mistaken, "hello", key="1")
            await healthy(connector, lambda health, name=mistaken: name in health.detail and not health.impaired)  # type: ignore[misc]
        await ana.kick(room, bot.user_id)
        await healthy(connector, lambda health: health.impaired)


async def test_nothing_is_said_in_an_encrypted_room(ana: Operator, bot: Bot) -> None:
    async with bot.running() as connector:
        room = await ana.create_room(invite=[bot.user_id], encrypted=True)
        await joined(ana, room, bot)
        with pytest.raises(MessageRefused, match="encrypted"):
            await bot.say(room, "secret", key="secret")
        await healthy(connector, lambda health: "is encrypted" in health.detail)
        plain = await room_with(ana, bot)
        await bot.say(plain, "fine", key="fine")
        encryption = {"algorithm": "m.megolm.v1.aes-sha2"}
        await ana.set_state(plain, "m.room.encryption", encryption)
        await healthy(connector, lambda health: plain in health.detail)
        with pytest.raises(MessageRefused, match="encrypted"):
            await bot.say(plain, "no longer", key="no-longer")
    assert await ana.messages(room, bot.user_id) == []


@pytest.mark.slow
async def test_the_rate_limit_comes_back_to_the_caller(private_synapse: Callable[..., Synapse], tmp_path: Path) -> None:
    server = private_synapse(limits=DEFAULT)
    bot = Bot(await server.register("bot"), tmp_path / "bot")
    async with Operator(await server.register("ana")) as ana, bot.running():
        room = await room_with(ana, bot)
        refused: list[TryLater] = []
        for number in range(12):
            try:
                await bot.say(room, f"message {number}", key=f"m{number}")
            except TryLater as error:
                refused.append(error)
        assert refused
        assert refused[0].limited
        assert refused[0].after is not None
        assert 0 < refused[0].after <= 10


@pytest.mark.slow
async def test_an_outage_is_waited_out_and_nothing_is_lost(
    private_synapse: Callable[..., Synapse], tmp_path: Path
) -> None:
    server = private_synapse(sync_cache=False)
    bot = Bot(await server.register("bot"), tmp_path / "bot")
    async with Operator(await server.register("ana")) as ana, bot.running() as connector:
        room = await room_with(ana, bot)
        await bot.supervisor.got(await ana.say(room, "before"))
        server.kill()
        await healthy(connector, lambda health: health.reachable is False)
        with pytest.raises(TryLater, match="cannot be reached"):
            await bot.say(room, "into the void", key="void")
        picture = Attachment(ref="mxc://muster.test/picture", name="a.png", media_type="image/png")
        with pytest.raises(TryLater) as missed:
            await connector.download(picture, limit=1)
        assert missed.value.away
        assert "trying again" in (await connector.health()).detail
        await server.restarted()
        for number in range(60):
            await ana.say(room, f"after {number}")
        await bot.supervisor.got(await ana.say(room, "end"))
        assert (await connector.health()).reachable is True
        await bot.say(room, "into the void", key="void")
    assert bot.supervisor.texts == ["before", *(f"after {number}" for number in range(60)), "end"]


async def test_a_log_in_that_was_ended_needs_a_person(ana: Operator, bot: Bot) -> None:
    async with bot.running() as connector:
        room = await room_with(ana, bot)
        async with Operator(bot.account) as same:
            await same.log_out()
        await healthy(connector, lambda health: health.authenticated is False)
        assert "Log in again" in (await connector.health()).detail
        with pytest.raises(TryLater):
            await bot.say(room, "hello", key="hello")
        again = asyncio.create_task(connector.start(bot.supervisor.cursor))
        with pytest.raises(NeedsPerson, match="Put a valid one"):
            await again


async def test_a_password_is_used_once(synapse: Synapse, tmp_path: Path) -> None:
    account = await synapse.register(prefix="bot")
    password = tmp_path / "password"
    password.write_text(account.password)
    bot = Bot(account, tmp_path / "bot", access_token=None, password=f"file:{password}", device="MUSTER")
    async with bot.running() as connector:
        assert connector.scope() == "MUSTER"
    kept = bot.folder / "state" / "session.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    password.write_text("changed")
    async with bot.running() as connector:
        assert connector.scope() == "MUSTER"
    kept.unlink()
    with pytest.raises(NeedsPerson, match="does not take the password"):
        async with bot.running():
            pass
    password.write_text(account.password)
    async with bot.running() as connector:
        assert connector.scope() == "MUSTER"


async def test_wrong_settings_are_told_apart(synapse: Synapse, tmp_path: Path, unused_tcp_port: int) -> None:
    account = await synapse.register(prefix="bot")
    for number, (settings, error, sentence) in enumerate(
        [
            ({"homeserver": f"http://127.0.0.1:{unused_tcp_port}"}, NotReady, "cannot be reached"),
            ({"homeserver": f"{synapse.url}/elsewhere"}, NotReady, "check"),
            ({"user": "@other:muster.test"}, NeedsPerson, "belongs to"),
            ({"access_token": "file:/nowhere/at/all"}, NeedsPerson, "does not exist"),
        ]
    ):
        given: dict[str, Any] = settings
        bot = Bot(account, tmp_path / str(number), **given)
        with pytest.raises(error, match=sentence):
            async with bot.running():
                pass
        detail = (await bot.connector.health()).detail
        assert sentence in detail


async def test_a_cancel_in_the_middle_of_a_long_poll_is_obeyed(bot: Bot) -> None:
    async with bot.running():
        pass
    connector = bot.connector
    connector.subscribe(bot.supervisor)
    life = asyncio.create_task(connector.start(bot.supervisor.cursor))
    await healthy(connector, lambda health: health.reachable is True)
    life.cancel()
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await life
        await connector.stop()
