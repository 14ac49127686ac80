"""Questions to operators: who may answer, how, and how often that counts."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals.questions import QuestionChoice
from bot.text.errors import UserError
from connectors.contract.messages import React
from core.crash_points import declare
from database.queries.agents import agents
from database.queries.chat import questions
from database.queries.chat.questions import Question
from tests.bot.orchestrator import OPERATOR, VIEWER, House, house

ASK = declare("test.questions.ask")
CHOICES = (QuestionChoice("✅", "go", "let it go on"), QuestionChoice("❄️", "freeze", "freeze it"))


class Taken:
    """What was answered, as whoever asked hears of it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.after: list[str] = []
        self.refuses = False

    async def taker(self, tx: AsyncConnection, question: Question, word: str, *, by: str) -> str:
        if self.refuses:
            raise UserError("not at this moment.")
        self.words.append(f"{word} by {by}")
        return f"{question.agent}: {word}"

    async def follower(self, question: Question, word: str) -> None:
        self.after.append(word)


async def ask(home: House, cause: str = "one") -> Question:
    services = home.orchestrator.services
    async with services.store.write(ASK) as tx:
        row = await agents.get(tx, "coder0")
        assert row is not None
        question: Question = await services.questions.ask(
            tx, row, kind="test", cause=cause, text="**coder0** asks: go on?", choices=CHOICES
        )
    services.delivery.wake()
    return question


def listening(home: House) -> Taken:
    taken = Taken()
    home.orchestrator.services.questions.on("test", taken.taker, taken.follower)
    return taken


async def test_operators_answer_once_by_reaction_and_by_command(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        taken = listening(home)
        thread = await home.launch("coder0")
        question = await ask(home)
        assert (await ask(home)).id == question.id, "asked again, it stands once"
        text = await home.heard(thread, "go on?")
        assert re.search(r"✅ let it go on: `!answer \w{8} go`", text)
        assert text.count("go on?") == 1
        said = home.chat.find(question.outbox_key)
        assert said is not None
        await home.marks(said.event_id, "✅", "❄️")
        assert sum(isinstance(each.content, React) and each.target == said.event_id for each in home.chat.said) == 2

        home.chat.react(said.event_id, "❄", sender=VIEWER, conversation=thread)
        await home.heard(thread, "Only operators answer this")
        home.chat.react(said.event_id, "🎉", sender=OPERATOR, conversation=thread)
        home.chat.react(said.event_id, "❄", sender=OPERATOR, conversation=thread)
        await home.chat.until(lambda: taken.after)
        assert taken.words == [f"freeze by memory:{OPERATOR}"]
        assert taken.after == ["freeze"]
        await home.heard(thread, "❄️ coder0: freeze (by memory:@otto)")
        assert "was answered by memory:@otto: freeze" in await home.ask(f"!answer {question.id} go")

        second = await ask(home, "two")
        assert second.id in await home.ask("!questions")
        assert "allowed is go, freeze" in await home.ask(f"!answer {second.id} maybe")
        assert "you have viewer" in await home.ask(f"!answer {second.id} go", sender=VIEWER)
        assert "coder0: go" in await home.ask(f"!answer {second.id[:5]} GO")
        assert taken.words[1:] == ["go by memory:@ana"]
        assert "No question waits" in await home.ask("!questions")


async def test_what_cannot_be_done_leaves_the_question_open(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open() as orchestrator:
        taken = listening(home)
        thread = await home.launch("coder0")
        question = await ask(home)
        await home.heard(thread, "go on?")
        said = home.chat.find(question.outbox_key)
        assert said is not None
        taken.refuses = True
        home.chat.react(said.event_id, "✅", conversation=thread)
        await home.heard(thread, "Not done: not at this moment.")
        async with orchestrator.store.read() as tx:
            assert [each.id for each in await questions.pending(tx)] == [question.id]
        taken.refuses = False
        assert "coder0: go" in await home.ask(f"!answer {question.id} go", conversation=thread)


async def test_a_question_outlives_a_restart_and_can_be_withdrawn(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        async with home.open():
            thread = await home.launch("coder0")
            question = await ask(home)
            await home.heard(thread, "go on?")
        async with home.open() as orchestrator:
            taken = listening(home)
            said = home.chat.find(question.outbox_key)
            assert said is not None
            home.chat.react(said.event_id, "✅", conversation=thread)
            await home.chat.until(lambda: taken.after)
            other = await ask(home, "two")
            services = orchestrator.services
            async with services.store.write(ASK) as tx:
                assert await services.questions.withdraw(tx, other, "Nobody needs to know any more.")
                assert not await services.questions.withdraw(tx, other, "Again.")
            services.delivery.wake()
            await home.heard(thread, "⌛ Nobody needs to know any more.")
            assert "nobody needs its answer" in await home.ask(f"!answer {other.id} go")
            assert taken.words == ["go by memory:@ana"]


async def test_ids_are_read_as_people_write_them(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        taken = listening(home)
        await home.launch("coder0")
        for number, written in enumerate(("`{}`", "{:.4}"), 1):
            question = await ask(home, written)
            await home.ask(f"!answer {written.format(question.id)} go")
            assert len(taken.words) == number, written
