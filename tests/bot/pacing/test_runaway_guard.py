"""An agent that spends with nothing to show for it is paused, and goes on when an operator says so."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.agents import fleet_loader
from bot.pacing.runaway_guard import FOLLOWED, RunawayLimit, SpentSinceResult, breaker
from bot.tasks import deferred_turns
from bot.tasks.deferred_turns import TurnHold
from budget.dispatch.next_task import TaskWait
from database.queries.agents import auto_resume, last_results
from database.queries.agents.auto_resume import Continuation
from database.queries.chat import questions
from database.queries.chat.questions import Question
from tests.bot.orchestrator import OPERATOR, VIEWER, House, egress_client, house

SETTINGS = "pacing: {runaway: {tokens: 50k}}\n"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, settings=SETTINGS) as made:
        yield made


async def look(home: House) -> None:
    await home.orchestrator.services.runaway.look()
    home.orchestrator.services.delivery.wake()


async def pending(home: House) -> list[Question]:
    async with home.orchestrator.store.read() as tx:
        return await questions.pending(tx)


async def denial(home: House) -> Any:
    """By what coder0 is cut off."""
    standing: Any = await egress_client(home.orchestrator).standing()
    return next((each for each in standing.get("denials") or [] if each["agent"] == "coder0"), None)


async def ran_away(home: House) -> str:
    """An agent that used too much, and is in the middle of another turn; its thread."""
    home.orchestrator.services.jobs.drop("runaways")  # it is looked when the test says so
    thread = await home.launch("coder0")
    home.say("[[wait: first]] [[cache: 900000 0]] [[say: that was much]]", thread)
    working = home.say("[[say: working]] [[wait: gate]]", thread)
    await home.marks(working, "📥")
    home.models.release("first")
    await home.marks(working, "👀")
    await home.spent(1)
    return thread


async def asked(home: House, thread: str) -> Question:
    await look(home)
    await home.heard(thread, "May it go on?")
    (question,) = await pending(home)
    return question


async def test_it_is_paused_and_goes_on_when_an_operator_says_so(home: House) -> None:
    async with home.open():
        thread = await ran_away(home)
        question = await asked(home, thread)
        text = await home.heard(thread, "🏃 **coder0** used 9")
        assert "since an operator's answer" in text
        assert "50k tokens are allowed" in text
        assert re.search(r"❄️ freeze it, with its conversation: `!answer \w{8} freeze`", text)
        assert (await denial(home))["id"] == f"runaway/{question.id}"
        shown = await home.ask("!ps")
        assert f"Paused until somebody answers whether it may go on: coder0 (`!answer {question.id} go`)." in shown
        assert "Cut off" not in shown
        gate = (await fleet_loader.load_agent(home.orchestrator.services, "coder0")).gate
        assert gate is not None
        assert [(each.kind, each.question) for each in gate.closures] == [("paused", question.id)]
        await home.chat.until(lambda: any("cancelled" in each or "failed" in each for each in home.chat.texts(thread)))
        await look(home)
        assert [each.id for each in await pending(home)] == [question.id], "one runaway is asked about once"
        said = home.chat.find(question.outbox_key)
        assert said is not None

        home.chat.react(said.event_id, "✅", sender=VIEWER, conversation=thread)
        await home.heard(thread, "Only operators answer this")
        assert await denial(home) is not None
        home.chat.react(said.event_id, "✅", sender=OPERATOR, conversation=thread)
        await home.heard(thread, "✅ coder0 goes on; its use is counted from zero. (by memory:@otto)")
        await home.heard(thread, "An operator lets you go on")
        assert await denial(home) is None
        await look(home)
        assert not await pending(home)
        assert sum("An operator lets you go on" in each for each in home.chat.texts(thread)) == 1
        await home.marks(home.say("hello", thread), "✅")


@pytest.mark.slow
async def test_the_question_outlives_a_restart_and_can_have_it_frozen(home: House) -> None:
    async with home.open():
        thread = await ran_away(home)
        question = await asked(home, thread)
    async with home.open():
        await look(home)
        assert [each.id for each in await pending(home)] == [question.id]
        assert "coder0 is frozen." in await home.ask(f"!answer {question.id} freeze")
        await home.becomes("frozen")
        await home.ask("!resume coder0")
        await home.heard(thread, "going on with its conversation")
        await home.marks(home.say("hello", thread), "✅")
        assert not await pending(home)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["words", "send", "restore", "restart"])
async def test_whoever_sees_to_it_otherwise_has_answered(home: House, by: str) -> None:
    async with home.open():
        thread = await ran_away(home)
        await asked(home, thread)
        match by:
            case "words":
                await home.marks(home.say("make it brief", thread), "✅")
            case "send":
                await home.ask("!send coder0 make it brief")
                await home.heard(thread, "make it brief")
            case "restore":
                assert "may go out again" in await home.ask("!restore coder0")
            case _:
                await home.ask("!restart coder0 --now")
                await home.chat.until(lambda: sum("▶ Ready" in each for each in home.chat.texts(thread)) == 2, limit=30)
        await look(home)
        assert not await pending(home)
        assert await denial(home) is None
        assert not any("An operator lets you go on" in each for each in home.chat.texts(thread))
        await home.marks(home.say("hello", thread), "✅")


@pytest.mark.slow
async def test_it_can_be_stopped_and_what_a_person_closed_stays_closed(home: House) -> None:
    async with home.open():
        thread = await ran_away(home)
        await home.ask("!cutoff coder0")
        question = await asked(home, thread)
        assert not (await denial(home))["id"].startswith("runaway")
        assert "coder0 goes on" in await home.ask(f"!answer {question.id} go")
        assert await denial(home) is not None
        await home.ask("!restore coder0")
        await home.marks(home.say("[[cache: 900000 0]] [[say: again]]", thread), "✅")
        await home.spent(3)
        await look(home)
        (second,) = await pending(home)
        assert "coder0 stops." in await home.ask(f"!answer {second.id} stop")
        await home.becomes("stopped")


async def test_it_is_not_shaken_off_by_being_frozen_and_brought_back_by_itself(home: House) -> None:
    async with home.open() as orchestrator:
        await ran_away(home)
        desired_states, store = orchestrator.services.agents.desired_states, orchestrator.store
        asked_about: set[str] = set()
        for number in range(2):
            await look(home)
            asked_about.update(each.id for each in await pending(home))
            assert len(asked_about) == number + 1, "nobody answered, so it is asked again"
            async with store.write(FOLLOWED) as tx:  # as a budget does at its limit
                await desired_states.freeze(tx, await home.row(), now=True)
            await look(home)
            assert not await pending(home)
            async with store.write(FOLLOWED) as tx:  # and as it goes on at the reset
                await desired_states.resume(tx, await home.row(), run_id=f"continue-{number}", by="muster")


async def test_words_of_another_agent_that_the_pace_holds_are_no_persons_look(home: House) -> None:
    async with home.open() as orchestrator:
        await home.launch("coder0")
        hold = TurnHold(wait=TaskWait(task="", why="pace", text="No room.", look_at=time.time() + 3_600))
        for by, kind in (("agent:lead0", "launch"), ("memory:@ana", "answer")):
            async with orchestrator.store.write(FOLLOWED) as tx:
                row = await home.row()
                nowhere: dict[str, Any] = dict.fromkeys(("connector", "conversation", "event_id", "answer_in"))
                await deferred_turns.add(tx, orchestrator.services, row, hold, "go on", cause=by, by=by, **nowhere)
                last = await last_results.get(tx, "coder0")
            assert last is not None
            assert last.kind == kind


async def test_who_waits_for_an_answer_does_not_go_on_after_a_limit(home: House) -> None:
    async with home.open() as orchestrator:
        thread = await ran_away(home)
        question = await asked(home, thread)
        row = await home.row()
        async with orchestrator.store.write(FOLLOWED) as tx:
            limit = Continuation(
                id="one",
                agent="coder0",
                launch_id=row.launch_id,
                scope="host",
                stopped_at=time.time(),
                resume_at=time.time(),
                state="waiting",
            )
            await auto_resume.add(tx, limit)
        await home.chat.until(lambda: any("cancelled" in each or "failed" in each for each in home.chat.texts(thread)))
        await orchestrator.services.continuing.look()
        async with orchestrator.store.read() as tx:
            assert await auto_resume.waiting(tx)
        await home.ask(f"!answer {question.id} go")
        await home.heard(thread, "An operator lets you go on")
        await orchestrator.services.continuing.look()
        assert not any("Go on where you stopped" in each for each in home.chat.texts(thread)), "it is told once"


async def test_an_answer_that_comes_after_it_was_launched_anew_does_nothing(home: House) -> None:
    async with home.open() as orchestrator:
        thread = await ran_away(home)
        question = await asked(home, thread)
        async with orchestrator.store.write(FOLLOWED) as tx:
            await last_results.note(tx, "coder0", "launch", time.time())
        assert "Somebody handled coder0 since this was asked" in await home.ask(f"!answer {question.id} stop")
        assert (await home.row()).wanted == "running"
        await look(home)
        assert not await pending(home)


@pytest.mark.parametrize(
    ("tokens", "usd", "limit", "unit"),
    [
        (5e6, 0.0, RunawayLimit(tokens=5e6), None),
        (5e6 + 1, 0.0, RunawayLimit(tokens=5e6), "tokens"),
        (1.0, 20.5, RunawayLimit(tokens=5e6, usd=20.0), "usd"),
        (1e9, 1e9, RunawayLimit(), None),
        (6e6, 30.0, RunawayLimit(tokens=5e6, usd=20.0), "tokens"),
    ],
)
def test_past_a_limit_it_is_a_runaway(tokens: float, usd: float, limit: RunawayLimit, unit: str | None) -> None:
    found = breaker(SpentSinceResult(tokens=tokens, usd=usd), limit)
    assert (None if found is None else found.unit) == unit
