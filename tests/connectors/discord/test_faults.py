"""What goes out on a fake Discord where something is in the way: each thing stands once, or somebody is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from connectors.contract.messages import File, Message, OpenThread, Priority, React, Replace
from connectors.discord import message_conversion, rest_client
from connectors.discord.rest_client import DiscordClient, DiscordRefusal
from tests.connectors.discord.conftest import Desk

LONG = "\n".join(f"line {number} of what is said at length" for number in range(120))


async def test_what_a_proxy_refuses_is_not_lost(desk: Desk) -> None:
    desk.world.script.extend(["html 403", "html 404"])
    async with desk.open():
        await desk.office.put("one", to=desk.room)
        await desk.office.until_state("one", "sent")
    assert desk.world.texts() == ["one"]


async def test_a_token_that_is_not_known_any_more_ends_it_also_where_the_gateway_says_nothing(desk: Desk) -> None:
    async with desk.open():
        desk.world.token = "another"
        await desk.office.put("one", to=desk.room)
        health = await desk.health(lambda found: found.authenticated is False)
        assert "Reset Token" in health.detail
        asked = len(desk.world.wire)
        assert await desk.office.state("one") == "pending"
    assert len(desk.world.wire) - asked < 5


async def test_what_discord_refuses_again_and_again_is_not_asked_until_it_shuts_us_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears no more of an address from which come ten thousand refused requests in ten minutes."""
    monkeypatch.setattr(rest_client, "MOST_INVALID", 3)
    now = 0.0
    async with DiscordClient(desk.api, steady=lambda: now) as tried:
        tried.token = desk.world.token
        desk.world.channel.denied = {"send"}
        path = f"/channels/{desk.room}/messages"
        for _ in range(5):
            with pytest.raises(DiscordRefusal) as refused:
                await tried.call("POST", path, body=message_conversion.spoken("one", key="one"))
        assert (refused.value.everywhere, refused.value.after) == (True, 600.0)
        assert len(desk.world.wire) == 3
        now = 600.0
        desk.world.channel.denied.clear()
        assert (await tried.call("POST", path, body=message_conversion.spoken("one", key="one")))["content"] == "one"


async def test_of_a_file_that_is_too_large_the_caption_stands_and_says_so(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(b"x" * 2_000)
    desk.world.largest_upload = 1_000
    async with desk.open():
        file = File(path=str(tmp_path / "core"), name="core", media_type="text/plain", caption="what fell")
        await desk.office.put("file", file, to=desk.room)
        await desk.office.until_state("file", "sent")
    (text,) = desk.world.texts()
    assert text.startswith("what fell\n")
    assert "core is not here: it has 0.0 MiB" in text


async def test_what_people_delete_makes_no_dead_letters_and_the_last_word_is_said_all_the_same(desk: Desk) -> None:
    async with desk.open():
        said = desk.world.say("go")
        await desk.office.until_state(f"re {said}", "sent")
        await desk.office.put("long", Message(text=LONG), to=desk.room)
        row = await desk.office.until_state("long", "sent")
        assert row.event_id is not None
        _, first, second, third = (each["id"] for each in desk.world.said())
        assert first == row.event_id
        desk.world.delete(said)
        desk.world.delete(second)
        await desk.office.put("mark", React(target=said, key="✅"), to=desk.room, priority=Priority.RECEIPT)
        await desk.office.put("grown", Replace(target="long", message=Message(text=f"{LONG}!")), to=desk.room)
        await desk.office.until_state("mark", "sent")
        await desk.office.until_state("grown", "sent")
        assert [each["id"] for each in desk.world.said()][1:] == [first, third]
        desk.world.delete(first)
        desk.world.delete(third)
        await desk.office.put("more", Replace(target="long", message=Message(text="and more")), to=desk.room)
        await desk.office.until_state("more", "sent")
        await desk.office.put("last", Replace(target="long", message=Message(text="done"), final=True), to=desk.room)
        await desk.office.until_state("last", "sent")
    assert desk.world.texts()[1:] == ["done"]


@pytest.mark.parametrize("how", ["message", "opener", "change"])
async def test_parts_that_stand_are_found_after_a_crash_and_not_said_again(desk: Desk, how: str) -> None:
    """The second part went out, its answer was lost, and then Muster was away until Discord had forgotten the nonce."""
    short = Message(text="short")
    opener = OpenThread(title="t", message=Message(text=LONG))
    async with desk.open():
        if how == "change":
            await desk.office.put("long", short, to=desk.room)
            await desk.office.until_state("long", "sent")
            await desk.office.put("grown", Replace(target="long", message=Message(text=LONG)), to=desk.room)
        else:
            await desk.office.put("long", opener if how == "opener" else Message(text=LONG), to=desk.room)
        desk.world.script.extend([*([] if how == "change" else [None]), "lost", *["500"] * 50])
        await desk.world.until(lambda: len(desk.world.script) < 49)
    desk.world.forget_nonces()
    desk.world.script.clear()
    lines = (desk.folder / "sent").read_text().splitlines()
    (desk.folder / "sent").write_text("\n".join(lines[:2]) + "\n")  # it noted the first part alone
    connector = desk.connector()
    connector.capabilities = replace(connector.capabilities, remembers_keys=None)
    async with desk.office.open({"discord": connector}):
        await desk.office.until_state("grown" if how == "change" else "long", "sent")
    places = [desk.world.channel, *desk.world.threads()]
    said = [text for place in places for text in desk.world.texts(place)]
    assert len(said) == len(set(said)) > 1
    assert "\n".join(said) == LONG


@pytest.mark.parametrize("when", ["while it is there", "while it is away"])
async def test_what_belongs_in_a_thread_that_was_deleted_is_said_in_the_channel(desk: Desk, when: str) -> None:
    async with desk.open():
        await desk.office.put("open", OpenThread(title="coder0", message=Message(text="up")), to=desk.room)
        await desk.office.put("answer", Message(text="I think"), thread_of="open")
        await desk.office.until_state("answer", "sent")
        (thread,) = desk.world.threads()
        if when == "while it is there":
            desk.world.delete_thread(thread)
            await desk.office.put("more", Message(text="more"), thread_of="open")
            await desk.office.until_state("more", "sent")
    if when == "while it is away":
        desk.world.delete_thread(thread)
    async with desk.open():
        done = Replace(target="answer", message=Message(text="I think so"), final=True)
        await desk.office.put("done", done, thread_of="open")
        await desk.office.put("last", Message(text="last"), thread_of="open")
        for key in ("done", "last"):
            await desk.office.until_state(key, "sent")
    said = ["up", *(["more"] if when == "while it is there" else []), "I think so", "last"]
    assert sorted(desk.world.texts()) == sorted(said)


async def test_what_belongs_in_a_direct_conversation_that_is_gone_is_told_nobody_else(desk: Desk) -> None:
    direct = desk.world.direct(desk.world.ana)
    async with desk.open():
        del desk.world.places[direct.id]
        await desk.office.put("secret", to=str(direct.id))
        await desk.office.until_state("secret", "dead")
    assert desk.world.texts() == []


async def test_the_end_of_a_long_text_that_opened_a_thread_is_changed_in_the_thread(desk: Desk) -> None:
    async with desk.open():
        await desk.office.put("open", OpenThread(title="t", message=Message(text=LONG)), to=desk.room)
        await desk.office.until_state("open", "sent")
    (thread,) = desk.world.threads()
    thread.archived = True  # and a restart, so that nobody knows of it
    async with desk.open():
        changed = LONG.replace("line", "row")
        await desk.office.put("change", Replace(target="open", message=Message(text=changed)), to=desk.room)
        await desk.office.until_state("change", "sent")
    assert "\n".join([*desk.world.texts(), *desk.world.texts(thread)]) == changed
