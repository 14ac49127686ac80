"""Buttons on a fake Discord: shown, pressed, answered to who pressed alone, and gone when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.messages import Button, ButtonStyle, Message, OpenThread, Reaction, Replace
from tests.discord.test_connector import arrived

if TYPE_CHECKING:
    from tests.discord.conftest import Desk

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
