"""A long command shows in chat how far it is, and leaves one answer and nothing that says it is still at work."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bot.app import orchestrator as orchestrator_module
from bot.auth.permission import OPERATOR
from bot.commands import sections
from bot.commands.context import Context
from bot.commands.registry import CommandTable, Reply
from bot.commands.services import CommandServices
from bot.commands.syntax import command_line
from bot.messaging import progress_message
from bot.text.errors import UserError
from connectors.delivery import inbox
from core.crash_points import declare
from core.errors import MusterError
from tests.bot.orchestrator import ROOM, House, house

GIVE_UP = declare("test.give_up")


@dataclass
class Work:
    """What `work` is told to do by the test, step by step."""

    steps: "asyncio.Queue[str | Exception | None]" = field(default_factory=asyncio.Queue)
    taken: int = 0

    async def do(self, ctx: Context[CommandServices]) -> Reply:
        while (step := await self.steps.get()) is not None:
            if isinstance(step, Exception):
                raise step
            await ctx.progress(step)
            self.taken += 1
        return Reply("All of it is done.")


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """A long command, and another that asks first, which every orchestrator has; what they tell is shown at once."""
    work = Work()
    table = CommandTable()

    @table.command("work", permission=OPERATOR, help_section="x")
    async def long(ctx: Context[CommandServices]) -> Reply:
        """Work."""
        return await work.do(ctx)

    @table.command("overwork", permission=OPERATOR, help_section="x", confirm=True)
    async def longer(ctx: Context[CommandServices]) -> Reply:
        """Work, if that is really meant."""
        return await work.do(ctx)

    for command in sections.load():
        table.add(command)
    monkeypatch.setattr(orchestrator_module, "TABLE", table)
    monkeypatch.setattr(progress_message, "AFTER", 0.0)
    monkeypatch.setattr(progress_message, "EVERY", 0.0)
    return work


@pytest.fixture
async def home(tmp_path: Path, work: Work) -> AsyncIterator[House]:
    async with house(tmp_path) as made, made.open():
        yield made


def shown(home: House) -> list[str]:
    """What stands in the room, without the marks on it."""
    return home.chat.texts(ROOM)


async def test_one_message_shows_how_far_it_is_and_then_that_it_is_over(home: House, work: Work) -> None:
    event = home.chat.post("!work")
    work.steps.put_nowait("1 of 2")
    await home.heard(ROOM, "⏳ 1 of 2")
    work.steps.put_nowait(f"2 of 2, then {command_line('ps')}")
    await home.heard(ROOM, "⏳ 2 of 2, then `!ps`")
    work.steps.put_nowait(None)
    assert (await home.reply(event)).text == "All of it is done."
    await home.heard(ROOM, "☑️ Done.")
    assert shown(home) == ["☑️ Done.", "All of it is done."]


@pytest.mark.parametrize(
    ("error", "answer", "word"),
    [(UserError("No."), "No.", "✖ Refused."), (MusterError("It broke."), "It broke.", "✖ Failed.")],
)
async def test_how_it_ended_is_said(home: House, work: Work, error: Exception, answer: str, word: str) -> None:
    event = home.chat.post("!work")
    work.steps.put_nowait("begun")
    await home.heard(ROOM, "⏳ begun")
    work.steps.put_nowait(error)
    assert answer in (await home.reply(event)).text
    await home.heard(ROOM, word)
    assert len(shown(home)) == 2


async def test_a_quick_command_shows_its_answer_alone(home: House, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_message, "AFTER", 3600.0)
    for step in ("1 of 2", "2 of 2", None):
        work.steps.put_nowait(step)
    assert await home.ask("!work") == "All of it is done."
    await home.orchestrator.quiet()
    assert shown(home) == ["All of it is done."]


async def test_what_is_told_too_fast_is_not_all_shown(home: House, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_message, "EVERY", 3600.0)
    event = home.chat.post("!work")
    work.steps.put_nowait("step 0")
    await home.heard(ROOM, "⏳ step 0")
    for number in range(1, 100):
        work.steps.put_nowait(f"step {number}")
    work.steps.put_nowait(None)
    await home.reply(event)
    await home.heard(ROOM, "☑️ Done.")
    assert work.taken == 100
    (message,) = [said for said in home.chat.messages(ROOM) if said.text == "☑️ Done."]
    assert len(message.changes) == 1


async def test_one_that_asks_first_shows_it_after_the_yes(home: House, work: Work) -> None:
    await home.ask("!overwork")
    event = home.chat.post("!confirm")
    work.steps.put_nowait("begun")
    await home.heard(ROOM, "⏳ begun")
    work.steps.put_nowait(None)
    assert (await home.reply(event)).text == "All of it is done."
    await home.heard(ROOM, "☑️ Done.")


async def test_where_messages_cannot_be_changed_only_the_answer_is_said(tmp_path: Path, work: Work) -> None:
    async with house(tmp_path) as home:
        home.chat.capabilities = replace(home.chat.capabilities, edits=False)
        async with home.open() as orchestrator:
            for step in ("1 of 2", "2 of 2", None):
                work.steps.put_nowait(step)
            assert await home.ask("!work") == "All of it is done."
            await orchestrator.quiet()
            assert shown(home) == ["All of it is done."]


async def test_a_restart_goes_on_with_the_same_message(tmp_path: Path, work: Work) -> None:
    async with house(tmp_path) as home:
        async with home.open():
            event = home.chat.post("!work")
            work.steps.put_nowait("1 of 2")
            await home.heard(ROOM, "⏳ 1 of 2")
        async with home.open() as orchestrator:
            work.steps.put_nowait("2 of 2")
            await home.heard(ROOM, "⏳ 2 of 2")
            work.steps.put_nowait(None)
            assert (await home.reply(event)).text == "All of it is done."
            await home.heard(ROOM, "☑️ Done.")
            await orchestrator.quiet()
            assert shown(home) == ["☑️ Done.", "All of it is done."]


async def test_a_command_that_a_newer_muster_does_not_have_is_not_at_work_for_ever(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as home:
        async with home.open():
            event = home.chat.post("!work")
            work.steps.put_nowait("begun")
            await home.heard(ROOM, "⏳ begun")
        monkeypatch.setattr(orchestrator_module, "TABLE", sections.load())
        async with home.open():
            assert "no command" in (await home.reply(event)).text
            await home.heard(ROOM, "✖ Failed.")
            assert len(shown(home)) == 2


async def test_an_event_that_is_given_up_leaves_nothing_at_work(home: House, work: Work) -> None:
    event = home.chat.post("!work")
    work.steps.put_nowait("begun")
    await home.heard(ROOM, "⏳ begun")
    services = home.orchestrator.services
    async with services.store.write(GIVE_UP) as tx:
        arrival = await inbox.find(tx, "memory", event)
        assert arrival is not None
        await home.orchestrator.conversations.given_up(tx, arrival, "a fault")
    services.delivery.wake()
    assert "because of an internal error" in (await home.reply(event)).text
    await home.heard(ROOM, "✖ Failed.")
