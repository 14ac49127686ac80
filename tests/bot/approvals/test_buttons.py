"""What is asked has buttons where the chat system has such, and pressing one answers as a reaction does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.approvals.questions import QuestionChoice
from connectors.contract.messages import Message, React
from connectors.memory import ALL_CAPABILITIES, Said
from core.crash_points import declare
from database.queries.agents import agents
from tests.bot.orchestrator import OPERATOR, ROOM, STRANGER, VIEWER, House, house

ASK = declare("test.buttons.ask")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        made.chat.capabilities = replace(ALL_CAPABILITIES, buttons=True)
        async with made.open():
            yield made


def labels(said: Said) -> list[str]:
    """The buttons that stand under a message now."""
    message = said.changes[-1].message if said.changes else said.content
    assert isinstance(message, Message)
    return [button.label for button in message.buttons]


def told(home: House, event: str) -> Message | None:
    """What who pressed is told alone."""
    for said in home.chat.said:
        if isinstance(said.content, Message) and said.content.reply_to == event:
            return said.content
    return None


async def answer(home: House, event: str) -> str:
    """What they are told alone, once they are."""
    await home.chat.until(lambda: told(home, event), limit=30)
    message = told(home, event)
    assert message is not None
    assert message.private
    return message.text


async def test_a_permission_is_given_by_a_button_that_is_gone_when_it_is_over(home: House) -> None:
    thread = await home.launch("coder0")
    home.say("[[run: echo permitted > proof.txt]]", thread)
    question = await home.heard(thread, "asks for permission")
    asked = next(said for said in home.chat.messages(thread) if said.text == question)
    assert labels(asked) == [
        "✅ Allow once",
        "♾️ Always allow exactly this",
        "⏱️ Allow all its commands for 30 minutes",
        "❌ Deny",
    ]
    assert "`!approve" in question

    seen = home.chat.press(asked.event_id, "✅", sender=VIEWER, conversation=thread)
    assert "Only operators answer" in await answer(home, seen)
    turned_away = home.chat.press(asked.event_id, "✅", sender=STRANGER, conversation=thread)
    assert "Only operators can command this fleet" in await answer(home, turned_away)

    home.chat.press(asked.event_id, "✅", sender=OPERATOR, conversation=thread)
    again = home.chat.press(asked.event_id, "✅", sender=OPERATOR, conversation=thread)
    await home.chat.until(lambda: "☑️" in asked.text, limit=30)
    assert labels(asked) == []
    late = home.chat.press(asked.event_id, "❌", conversation=thread)
    assert "is over" in await answer(home, late)
    assert told(home, again) is None, "who presses twice is told nothing"
    await home.chat.until(lambda: (home.paths.workspace("coder0") / "proof.txt").exists(), limit=30)
    assert not [said for said in home.chat.said if isinstance(said.content, React) and said.target == asked.event_id]


async def test_a_confirmation_is_pressed_by_the_same_person_and_loses_its_buttons(home: House) -> None:
    await home.launch("coder0")
    question = await home.reply(home.chat.post("!kill coder0"))
    assert "Press a button" in question.text
    assert labels(question) == ["✅ Confirm", "❌ Take it back"]
    others = home.chat.press(question.event_id, "✅", sender=OPERATOR)
    assert "can confirm" in await answer(home, others)
    home.chat.press(question.event_id, "❌")
    await home.heard(ROOM, "was taken back")
    await home.chat.until(lambda: not labels(question))
    assert question.text == "✖ `!kill coder0`: not done."

    question = await home.reply(home.chat.post("!kill coder0"))
    event = home.chat.press(question.event_id, "✅")
    await home.heard(ROOM, "is killed")
    assert told(home, event) is None, "what becomes of a command is for everybody"
    await home.chat.until(lambda: not labels(question))
    assert question.text == "☑️ `!kill coder0`: confirmed."


async def test_a_question_is_answered_by_a_button_and_an_old_button_says_that_it_is_old(home: House) -> None:
    thread = await home.launch("coder0")
    services = home.orchestrator.services
    async with services.store.write(ASK) as tx:
        row = await agents.get(tx, "coder0")
        assert row is not None
        choices = (QuestionChoice("✅", "go", "let it go on"), QuestionChoice("⏹", "stop", "stop it"))
        question = await services.questions.ask(tx, row, kind="test", cause="1", text="Go on?", choices=choices)
    services.delivery.wake()
    await home.heard(thread, "Go on?")
    asked = home.chat.find(question.outbox_key)
    assert asked is not None
    assert labels(asked) == ["✅ Let it go on", "⏹ Stop it"]
    home.chat.press(asked.event_id, "⏹", conversation=thread)
    await home.heard(thread, "⏹ stop it. (by memory:@ana)")
    assert labels(asked) == []
    old = home.chat.press("$none", "✅", conversation=thread)
    assert "so old" in await answer(home, old)
