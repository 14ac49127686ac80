"""The connector through delivery, against a fake Discord: what people see there, and what reaches the register."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from connectors.contract import message_codec
from connectors.contract.connector_protocol import MessageRefused
from connectors.contract.messages import (
    Attachment,
    Edit,
    File,
    InboundBody,
    Message,
    OpenThread,
    React,
    Reaction,
    Redaction,
    Remark,
    Replace,
    Text,
)
from connectors.delivery.inbox import Arrival
from database.schema import inbox
from tests.connectors.discord.conftest import Desk
from tests.connectors.discord.fake_server_state import CONTENT, GUILDS, VOICE


async def arrived(desk: Desk) -> list[tuple[str, str, str | None, InboundBody]]:
    """What the register has: event, conversation, its main room, what it says."""
    async with desk.office.store.read() as tx:
        rows = await tx.execute(select(inbox).order_by(inbox.c.seq))
        return [(row.event_id, row.conversation, row.parent, message_codec.decode_inbound(row.body)) for row in rows]


async def test_what_is_written_is_answered_once_and_pings_nobody(desk: Desk) -> None:
    async with desk.open():
        said = desk.world.say("@everyone hello")
        await desk.office.until_state(f"re {said}", "sent")
    (answer,) = desk.world.said()
    assert answer["content"] == "re: @everyone hello"
    assert answer["message_reference"]["message_id"] == said
    (body,) = desk.world.posts
    assert body["allowed_mentions"] == {"parse": [], "replied_user": False}
    assert body["enforce_nonce"] is True


async def test_an_agents_thread_is_public_and_what_is_written_there_comes_from_there(desk: Desk) -> None:
    async with desk.open():
        await desk.office.put("open", OpenThread(title="coder0", message=Message(text="up")), to=desk.room)
        await desk.office.put("hello", Message(text="hello from coder0"), thread_of="open")
        row = await desk.office.until_state("hello", "sent")
        (thread,) = desk.world.threads()
        assert (thread.name, thread.parent) == ("coder0", desk.world.channel.id)
        assert desk.world.texts(thread) == ["hello from coder0"]
        said = desk.world.say("do it", place=thread)
        await desk.office.until_state(f"re {said}", "sent")
        assert desk.world.texts(thread)[1:] == ["re: do it"]
        desk.world.react(str(thread.id), "👍")
        await desk.world.until(lambda: desk.office.handled[-1:] and "👍" in desk.office.handled[-1])
    assert row.event_id is not None
    found = await arrived(desk)
    assert found[0] == (said, str(thread.id), desk.room, Text(text="do it"))
    assert found[1][1:] == (str(thread.id), desk.room, Reaction(target=str(thread.id), key="👍"))


async def test_text_grows_by_edits_and_a_reaction_marks_what_was_asked(desk: Desk) -> None:
    async with desk.open():
        said = desk.world.say("go")
        await desk.office.until_state(f"re {said}", "sent")
        await desk.office.put("answer", Message(text="one"), to=desk.room)
        await desk.office.until_state("answer", "sent")
        await desk.office.put(
            "grown", Replace(target="answer", message=Message(text="one two"), final=True), to=desk.room
        )
        await desk.office.put("mark", React(target=said, key="✅"), to=desk.room)
        await desk.office.until_state("grown", "sent")
        await desk.office.until_state("mark", "sent")
    assert desk.world.texts() == ["re: go", "one two"]
    assert desk.world.reactions(said) == ["✅"]


async def test_an_archived_thread_wakes_for_an_edit(desk: Desk) -> None:
    async with desk.open():
        await desk.office.put("open", OpenThread(title="coder0", message=Message(text="up")), to=desk.room)
        await desk.office.put("hello", Message(text="one"), thread_of="open")
        await desk.office.until_state("hello", "sent")
        (thread,) = desk.world.threads()
        thread.archived = True
        await desk.office.put("more", Replace(target="hello", message=Message(text="two")), thread_of="open")
        await desk.office.until_state("more", "sent")
    assert desk.world.texts(thread) == ["two"]
    assert not thread.archived


async def test_a_long_text_stands_in_several_messages_and_shrinks_again(desk: Desk) -> None:
    block = "```python\n" + "\n".join(f"print({number})" for number in range(400)) + "\n```"
    async with desk.open():
        await desk.office.put("long", Message(text=block), to=desk.room)
        await desk.office.until_state("long", "sent")
        texts = desk.world.texts()
        assert len(texts) == 3
        assert all(len(text) <= 2000 and text.startswith("```python\n") and text.endswith("\n```") for text in texts)
        inner = "\n".join(text.removeprefix("```python\n").removesuffix("\n```") for text in texts)
        assert f"```python\n{inner}\n```" == block
        await desk.office.put("short", Replace(target="long", message=Message(text="short")), to=desk.room)
        await desk.office.until_state("short", "sent")
    assert desk.world.texts() == ["short"]


async def test_a_file_goes_up_with_its_caption_and_one_comes_down_up_to_the_limit(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "chart.png").write_bytes(b"PNG")
    async with desk.open():
        chart = File(path=str(tmp_path / "chart.png"), name="chart.png", media_type="image/png", caption="a chart")
        await desk.office.put("file", chart, to=desk.room)
        await desk.office.until_state("file", "sent")
        (message,) = desk.world.said()
        assert (message["content"], message["attachments"][0]["filename"]) == ("a chart", "chart.png")
        assert desk.world.files[message["attachments"][0]["url"]] == b"PNG"

        given = desk.world.upload("dot.png", "image/png", b"dot!")
        said = desk.world.say("", attachments=[given])
        await desk.office.until_state(f"re {said}", "sent")
        ((_, _, _, body),) = await arrived(desk)
        assert isinstance(body, Text)
        (attachment,) = body.attachments
        assert (attachment.name, attachment.media_type, attachment.size) == ("dot.png", "image/png", 4)
        assert desk.office.delivery is not None
        connector = desk.office.delivery.connector("discord")
        assert connector is not None
        assert await connector.download(attachment, limit=4) == b"dot!"
        with pytest.raises(MessageRefused, match="larger than"):
            await connector.download(attachment, limit=3)
        elsewhere = Attachment(ref="https://example.org/x", name="x", media_type="image/png")
        with pytest.raises(MessageRefused, match="no address on Discord"):
            await connector.download(elsewhere, limit=4)


async def test_edits_and_deletions_are_no_input_but_are_known(desk: Desk) -> None:
    async with desk.open():
        said = desk.world.say("stop")
        await desk.office.until_state(f"re {said}", "sent")
        desk.world.edit(said, "go on")
        desk.world.delete(said)
        await desk.world.until(lambda: len(desk.office.handled) == 3)
    assert [body for *_, body in await arrived(desk)] == [
        Text(text="stop"),
        Edit(target=said, text="go on"),
        Redaction(target=said),
    ]


async def test_bots_other_channels_and_what_was_said_before_the_first_start_do_not_count(desk: Desk) -> None:
    world = desk.world
    world.say("before the first start")
    other = world.add(type(world.channel)(id=world.fresh(), type=0, name="other"))
    async with desk.open():
        robot = world.person("robot")
        robot.bot = True
        world.say("from a bot", by=robot)
        world.say("elsewhere", place=other)
        said = world.say(f"<@{world.bot.id}>: from ana")
        await desk.office.until_state(f"re {said}", "sent")
        direct = world.say("in private", place=world.direct(world.ana))
        await desk.office.until_state(f"re {direct}", "sent")
    assert [(event, parent, body) for event, _, parent, body in await arrived(desk)] == [
        (said, None, Text(text="from ana", mentions_us=True)),
        (direct, None, Text(text="in private")),
    ]


async def test_the_roles_of_whoever_writes_are_known_in_the_server_in_private_and_from_the_history(desk: Desk) -> None:
    world = desk.world
    world.ana.roles = [77]
    async with desk.open():
        events = [world.say("here"), world.say("in private", place=world.direct(world.ana))]
        world.react(events[0], "👍")
        await world.until(lambda: len(desk.office.handled) == 3)
    world.ana.roles = [77, 88]
    events.append(world.say("while you were away"))
    gone = world.say("and left", by=world.person("ben"))
    del world.accounts[int(world.message(gone)[0]["author"]["id"])]
    async with desk.open():
        await desk.office.until_state(f"re {gone}", "sent")
    async with desk.office.store.read() as tx:
        found = [
            each.inbound.groups for each in map(Arrival.from_row, await tx.execute(select(inbox).order_by(inbox.c.seq)))
        ]
    assert found == [("role:77",)] * 3 + [("role:77", "role:88"), ()]


# --- gaps --------------------------------------------------------------------------------------------------------


async def test_what_was_said_while_muster_was_away_comes_in_order_everywhere(desk: Desk) -> None:
    world = desk.world
    async with desk.open():
        for key in ("one", "two"):
            await desk.office.put(key, OpenThread(title=key, message=Message(text=key)), to=desk.room)
            await desk.office.until_state(key, "sent")
        first = world.say("hello", place=world.direct(world.ana))
        await desk.office.until_state(f"re {first}", "sent")
    one, two = world.threads()
    missed = [world.say(f"{number}") for number in range(230)]
    threaded = [world.say("in one", place=one), world.say("in two", place=two)]
    two.archived = True
    private = world.say("in private", place=world.direct(world.ana))
    async with desk.open():
        last = world.say("live")
        for key in (*missed, *threaded, private, last):
            await desk.office.until_state(f"re {key}", "sent")
    events = [event for event, *_ in await arrived(desk)]
    assert sorted(events) == sorted([first, *missed, *threaded, private, last])
    assert [event for event in events if event in missed] == missed
    assert world.texts()[2:] == [f"re: {number}" for number in range(230)] + ["re: live"]


@pytest.mark.parametrize("loss", ["dropped", "asked to reconnect"])
async def test_after_a_lost_connection_the_session_is_resumed(desk: Desk, loss: str) -> None:
    async with desk.open():
        if loss == "dropped":
            desk.world.drop()
        else:
            desk.world.ask_to_reconnect()
        said = desk.world.say("meanwhile")
        await desk.office.until_state(f"re {said}", "sent")
    assert (desk.world.identifies, desk.world.resumes) == (1, 1)
    assert desk.world.texts() == ["re: meanwhile"]


async def test_after_an_invalid_session_the_gap_is_read_from_the_history(desk: Desk) -> None:
    async with desk.open():
        desk.world.forget_sessions()
        said = desk.world.say("meanwhile")
        await desk.office.until_state(f"re {said}", "sent")
    assert desk.world.resumes == 0
    assert desk.world.identifies == 2
    assert desk.world.texts() == ["re: meanwhile"]


# --- faults of sending -------------------------------------------------------------------------------------------


async def test_an_answer_that_is_lost_makes_no_second_message(desk: Desk) -> None:
    desk.world.script.extend(["lost", "500", None])
    async with desk.open():
        await desk.office.put("one", to=desk.room)
        await desk.office.put("two", to=desk.room)
        await desk.office.until_state("two", "sent")
    assert desk.world.texts() == ["one", "two"]


async def test_a_rate_limit_is_waited_out_and_not_asked_against(desk: Desk) -> None:
    desk.world.script.extend(["429", "429 global"])
    async with desk.open():
        for number in range(4):
            await desk.office.put(f"m{number}", to=desk.room)
        await desk.office.until_state("m3", "sent")
    assert desk.world.texts() == [f"m{number}" for number in range(4)]
    assert desk.world.wire.count(f"POST /channels/{desk.room}/messages") == 6


async def test_a_bucket_that_is_used_up_is_not_asked_before_its_time(desk: Desk) -> None:
    desk.world.allowance |= {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "0.2"}
    async with desk.open():
        await desk.office.put("one", to=desk.room)
        await desk.office.put("two", to=desk.room)
        await desk.office.until_state("two", "sent")
        row = await desk.office.row("two")
    assert row.attempts > 1
    assert desk.world.wire.count(f"POST /channels/{desk.room}/messages") == 2


@pytest.mark.parametrize("record", ["kept", "lost"])
async def test_after_a_crash_what_stands_is_found_and_not_said_again(desk: Desk, record: str) -> None:
    """The message went out, and neither the register nor the record was told; Discord has forgotten the nonce."""
    desk.world.script.extend([None, "lost", *["500"] * 3])
    async with desk.open():
        await desk.office.put("before", Message(text="done"), to=desk.room)
        await desk.office.until_state("before", "sent")
        await desk.office.put("doubt", Message(text="done!"), to=desk.room)
        await desk.world.until(lambda: len(desk.world.said()) == 2)
    desk.world.forget_nonces()
    desk.world.script.clear()
    if record == "lost":
        (desk.folder / "sent").unlink()
    before, doubt = desk.world.said()
    connector = desk.connector()
    connector.capabilities = replace(connector.capabilities, remembers_keys=None)
    async with desk.office.open({"discord": connector}):
        row = await desk.office.until_state("doubt", "sent")
    assert row.event_id == doubt["id"] != before["id"]
    assert desk.world.texts() == ["done", "done!"]


async def test_what_never_went_out_is_not_taken_for_the_same_words_that_were_said_before(desk: Desk) -> None:
    desk.world.script.extend([None, *["500"] * 50])
    async with desk.open():
        await desk.office.put("before", Message(text="done"), to=desk.room)
        await desk.office.until_state("before", "sent")
        await desk.office.put("doubt", Message(text="done"), to=desk.room)
        await desk.world.until(lambda: len(desk.world.script) < 50)
    desk.world.script.clear()
    connector = desk.connector()
    connector.capabilities = replace(connector.capabilities, remembers_keys=None)
    async with desk.office.open({"discord": connector}):
        await desk.office.until_state("doubt", "sent")
    assert desk.world.texts() == ["done", "done"]


# --- health ------------------------------------------------------------------------------------------------------


async def test_a_revoked_token_is_for_a_person_to_mend(desk: Desk) -> None:
    async with desk.open():
        desk.world.revoke_token()
        health = await desk.health(lambda found: found.authenticated is False)
        assert "Reset Token" in health.detail


async def test_an_intent_that_is_not_granted_is_said_with_both_ways_out(desk: Desk) -> None:
    desk.world.granted = False
    async with desk.office_without_waiting():
        health = await desk.health(lambda found: "intent" in found.detail)
    assert "Message Content Intent" in health.detail
    assert "message_content: false" in health.detail


async def test_without_the_intent_mentions_and_direct_messages_are_read(desk: Desk) -> None:
    desk.world.granted = False
    async with desk.open(message_content=False):
        assert "only direct messages" in (await desk.health(lambda found: found.reachable is True)).detail
        desk.world.say("withheld")
        said = desk.world.say(f"<@{desk.world.bot.id}> !ps")
        await desk.office.until_state(f"re {said}", "sent")
    assert not any(session.intents & CONTENT for session in desk.world.sessions.values())
    said_by_people = [body for *_, body in await arrived(desk) if not isinstance(body, Remark)]
    assert said_by_people == [Text(text="!ps", mentions_us=True)]


async def test_a_missing_permission_is_named_and_what_waits_goes_out_once_it_is_given(desk: Desk) -> None:
    desk.world.channel.denied = {"send"}
    async with desk.open():
        await desk.office.put("one", to=desk.room)
        health = await desk.health(lambda found: "may not say" in found.detail)
        assert "Send Messages" in health.detail
        assert await desk.office.state("one") == "pending"
        desk.world.channel.denied.clear()
        # Whatever is heard from Discord lets what waits be tried at once.
        desk.world.say("granted")
        await desk.office.until_state("one", "sent")
        assert "may not say" not in (await desk.health(lambda found: found.reachable is True)).detail


async def test_a_bot_that_is_not_in_the_server_says_how_to_invite_it(desk: Desk) -> None:
    desk.world.inside = False
    async with desk.office_without_waiting():
        health = await desk.health(lambda found: "invite" in found.detail)
        assert str(desk.world.guild) in health.detail


async def test_a_channel_that_is_not_there_is_named_from_the_start_and_when_it_is_deleted(desk: Desk) -> None:
    world = desk.world
    async with desk.open():
        assert (await desk.health(lambda found: found.reachable is True)).detail.endswith(f"{world.guild}.")
        del world.places[world.channel.id]
        world.dispatch("CHANNEL_DELETE", world.place_json(world.channel), GUILDS)
        await desk.health(lambda found: "no such channel" in found.detail)
    voice = world.add(type(world.channel)(id=world.fresh(), type=VOICE, name="talk"))
    async with desk.open(channel=str(voice.id)):
        await desk.health(lambda found: "no such channel" in found.detail)
