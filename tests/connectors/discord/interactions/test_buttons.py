"""Buttons on a fake Discord: shown, pressed, answered to who pressed alone, and gone when it is over."""

from __future__ import annotations

from pathlib import Path

from connectors.contract.messages import Button, ButtonStyle, File, Message, OpenThread, Reaction, Replace
from connectors.discord import message_conversion
from tests.connectors.discord.conftest import Desk
from tests.connectors.discord.test_connector import arrived

ASK = Message(
    text="May I? `!approve 1`",
    buttons=(
        Button(key="✅", label="✅ Allow once", style=ButtonStyle.GOOD),
        Button(key="♾️", label="♾️ Always"),
        Button(key="❌", label="❌ Deny", style=ButtonStyle.DANGER),
    ),
)


async def asked(desk: Desk) -> str:
    """The bot asks. Returns the message's id."""
    await desk.office.put("ask", ASK, to=desk.room)
    row = await desk.office.until_state("ask", "sent")
    assert row.event_id is not None
    return row.event_id


async def test_a_question_has_its_buttons_until_it_is_over(desk: Desk) -> None:
    async with desk.open():
        message = await asked(desk)
        buttons = desk.world.buttons(message)
        assert buttons == {"✅ Allow once": "muster:✅", "♾️ Always": "muster:♾️", "❌ Deny": "muster:❌"}
        found, _ = desk.world.message(message)
        assert [each["style"] for each in found["components"][0]["components"]] == [3, 2, 4]
        await desk.office.put("closed", Replace(target="ask", message=Message(text="☑️"), final=True), to=desk.room)
        await desk.office.until_state("closed", "sent")
        assert desk.world.buttons(message) == {}


async def test_buttons_of_a_long_question_stand_once_also_where_the_text_does_not_fit(desk: Desk) -> None:
    long = Message(text="\n".join(["a line of what is asked"] * 120), buttons=ASK.buttons)
    async with desk.open():
        await desk.office.put("ask", OpenThread(title="t", message=long), to=desk.room)
        await desk.office.until_state("ask", "sent")
    (thread,) = desk.world.threads()
    counts = [len(desk.world.buttons(each["id"])) for each in (*desk.world.said(), *desk.world.said(thread))]
    assert counts == [3, 0]


async def test_buttons_of_a_message_that_an_earlier_bot_said_go_on_working(desk: Desk) -> None:
    async with desk.open():
        message = await asked(desk)
    async with desk.open():
        first = desk.world.click(message, "muster:❌")
        desk.world.click(message, "of-another-program")
        second = desk.world.click(message, "muster:✅")
        await desk.world.until(lambda: len(desk.office.handled) == 2)
    pressed = [(event, body) for event, _, _, body in await arrived(desk)]
    assert sorted(pressed, key=lambda each: each[0]) == [
        (first, Reaction(target=message, key="❌", pressed=True)),
        (second, Reaction(target=message, key="✅", pressed=True)),
    ]
    assert set(desk.world.callbacks) == {first, second}


async def test_what_concerns_only_who_pressed_is_told_them_alone_while_that_can_be(desk: Desk) -> None:
    async with desk.open():
        message = await asked(desk)
        presses = [desk.world.click(message, "muster:✅") for _ in range(2)]
        await desk.world.until(lambda: len(desk.office.handled) == 2)
        desk.world.expired.add(presses[1])
        for key, number in zip("ab", presses, strict=True):
            content = Message(text=f"@everyone {key}", reply_to=number, private=True)
            await desk.office.put(key, content, to=desk.room)
            await desk.office.until_state(key, "sent")
    assert desk.world.asides == {presses[0]: ["@everyone a"]}
    assert desk.world.texts() == [ASK.text, "@everyone b"], "what can be told nobody alone is told all"


LINES = "\n".join(f"line {number} of what was told" for number in range(80))
BLOCK = "```\n" + "\n".join(f"x = {number}" for number in range(150)) + "\n```"


async def pressed(desk: Desk) -> str:
    """Somebody presses a button. Returns the event's id."""
    event = desk.world.click(await asked(desk), "muster:✅")
    await desk.world.until(lambda: event in desk.office.handled)
    return event


async def test_what_is_told_alone_stands_whole_in_several_messages_each_once(desk: Desk) -> None:
    async with desk.open():
        event = await pressed(desk)
        desk.world.script.extend(["ok", "500"])
        content = Message(text=f"{LINES}\n{BLOCK}", reply_to=event, private=True)
        await desk.office.put("long", content, to=desk.room)
        await desk.office.until_state("long", "sent")
    assert desk.world.asides == {event: [LINES, BLOCK]}
    assert desk.world.texts() == [ASK.text]


async def test_where_the_rest_can_be_told_nobody_alone_all_is_told_all(desk: Desk) -> None:
    def expire(request: str) -> None:
        if request.startswith("POST /webhooks/"):
            desk.world.expired.add(event)

    async with desk.open():
        event = await pressed(desk)
        desk.world.on_request = expire
        content = Message(text=f"{LINES}\n{BLOCK}", reply_to=event, private=True)
        await desk.office.put("long", content, to=desk.room)
        await desk.office.until_state("long", "sent")
    assert desk.world.asides == {event: [LINES]}
    assert desk.world.texts() == [ASK.text, LINES, BLOCK]


async def test_a_file_goes_to_who_pressed_alone_while_that_can_be(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "all.md").write_bytes(b"all of it")
    (tmp_path / "core.md").write_bytes(b"x" * 2_000)
    desk.world.largest_upload = 1_000

    async def put(name: str) -> None:
        path = tmp_path / f"{name.split()[0]}.md"
        file = File(
            path=str(path), name=path.name, media_type="text/markdown", caption=name, reply_to=event, private=True
        )
        await desk.office.put(name, file, to=desk.room)
        await desk.office.until_state(name, "sent")

    async with desk.open():
        event = await pressed(desk)
        await put("all")
        await put("core")
        assert desk.world.texts() == [ASK.text]
        desk.world.expired.add(event)
        await put("all for all")
    assert desk.world.aside_files == [(event, "all.md", b"all of it")]
    whole, lacking = desk.world.asides[event]
    assert whole == "all"
    assert "core.md is not here" in lacking
    assert desk.world.texts() == [ASK.text, "all for all"]


def test_more_buttons_than_a_row_takes_stand_in_further_rows() -> None:
    buttons = [Button(key=str(number), label=str(number)) for number in range(6)]
    rows = message_conversion.components(buttons)
    assert [[each["label"] for each in row["components"]] for row in rows] == [["0", "1", "2", "3", "4"], ["5"]]
