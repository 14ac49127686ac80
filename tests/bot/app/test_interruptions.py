"""What an operator notices of restarts, absences and changes of mind."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.agents import watch as watches
from connectors.contract.connector_protocol import MessageRefused
from connectors.contract.messages import File
from core.errors import RegisterError
from fleet.control.agent_host_client import AgentLink
from fleet.journal.events import PermissionAsked, TurnEnded
from tests import waiting
from tests.bot.fake_agents import launch, recorded, roster, steps
from tests.bot.orchestrator import ROOM, House, house

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))


@pytest.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(watches, "EVERY", 0.05)
    async with house(tmp_path, roster=roster(tmp_path, "imp", "elf")) as made, made.open():
        yield made


def prompts(home: House, name: str) -> list[str]:
    return [item["prompt"] for item in recorded(home.paths.config, name) if "prompt" in item]


# --- restarts and absences --------------------------------------------------------------------------------------


async def test_an_answer_that_a_restart_interrupts_stands_once_and_whole(tmp_path: Path) -> None:
    words = " ".join(f"word{number}" for number in range(40))
    async with house(tmp_path) as home:
        async with home.open():
            thread = await home.launch("coder0")
            event = home.say(f"[[stream: 20 {words}]] [[wait: gate]] [[say: and the end.]]", thread)
            await home.heard(thread, "word1")
        home.models.release("gate")
        async with home.open():
            await home.marks(event, "✅")
            await home.heard(thread, "and the end.")
            await home.marks(home.say("[[say: next]]", thread), "✅")
        answers = [text for text in home.chat.texts(thread) if "word1" in text]
        assert len(answers) == 1
        assert "…" not in answers[0]


async def test_many_turns_during_an_absence_are_told_as_one_digest_with_a_file(tmp_path: Path) -> None:
    async with house(tmp_path, roster=roster(tmp_path, "imp")) as home:
        async with home.open():
            thread = await launch(home, "imp")
            first = home.say(
                steps({"ask": {"title": "t", "rawInput": {"command": "c"}}}, {"say": "first done"}), thread
            )
            question = await home.heard(thread, "asks for permission")
            events = [home.say(f"turn {number}", thread) for number in range(12)]
            for event in events:
                await home.marks(event, "📥")
            asked = next(said for said in home.chat.messages(thread) if said.text == question)
        await answered_while_away(home, "imp")
        async with home.open():
            for event in (first, *events):
                await home.marks(event, "✅")
            digest = await home.heard(thread, "While nobody listened")
            assert "finished 13 turns" in digest
            texts = home.chat.texts(thread)
            assert sum("heard: turn" in text for text in texts) == 1
            assert "☑️" in asked.text
            await home.heard(thread, "The whole text")
            file = next(said.content for said in home.chat.messages(thread) if isinstance(said.content, File))
            whole = Path(file.path).read_text()
            assert all(f"heard: turn {number}" in whole for number in range(12))


async def answered_while_away(home: House, name: str) -> None:
    """Allow what an agent asks for behind the orchestrator's back, and wait until it rests."""
    async with await AgentLink.connect(home.paths.agent_socket(name)) as link:
        asked = next(e for e in await link.tail(200) if isinstance(e.event, PermissionAsked))
        assert isinstance(asked.event, PermissionAsked)
        await link.answer(
            incarnation=asked.position.incarnation,
            session=asked.event.session,
            request=asked.event.request,
            digest=asked.event.digest,
            option="yes",
            by="memory:@ana",
        )
        ended = 0
        async for item in link.follow(asked.position):
            ended += isinstance(getattr(item, "event", None), TurnEnded)
            if ended == 13:
                return


async def test_a_register_that_is_taken_away_is_missed_and_used_again_when_it_is_back(home: House) -> None:
    file = Path(home.orchestrator.store.place)
    away = file.with_name("elsewhere.db")
    thread = await launch(home, "imp")
    os.rename(file, away)
    event = home.chat.post("!ps")
    with pytest.raises(RegisterError, match="removed or replaced"):
        async with home.orchestrator.store.read():
            pass
    assert not file.exists()
    os.rename(away, file)
    assert "imp" in (await home.reply(event)).text
    await home.marks(home.say("hello", thread), "✅")


async def test_a_register_that_was_replaced_is_not_written_to(home: House) -> None:
    file = Path(home.orchestrator.store.place)
    away = file.with_name("elsewhere.db")
    os.rename(file, away)
    file.write_bytes(away.read_bytes())
    before = file.read_bytes()
    event = home.chat.post("!ps")
    with pytest.raises(RegisterError, match="removed or replaced"):
        async with home.orchestrator.store.read():
            pass
    assert file.read_bytes() == before
    os.replace(away, file)
    assert "No agent runs" in (await home.reply(event)).text


@pytest.mark.slow
async def test_a_conversation_that_hangs_does_not_hold_up_reactions_elsewhere(home: House) -> None:
    imp, elf = await launch(home, "imp"), await launch(home, "elf")
    home.chat.hang(imp)
    home.say("say something", imp)
    theirs = home.chat.post("people talk [[", conversation=elf, parent=ROOM)
    home.chat.react(theirs, "👍", conversation=elf)
    await home.marks(home.say("and now work", elf), "✅")
    home.chat.release(imp)
    await home.heard(imp, "heard: say something")


# --- changes of mind --------------------------------------------------------------------------------------------


async def test_steering_cancels_the_turn_and_goes_first(home: House) -> None:
    thread = await launch(home, "imp")
    first = home.say(steps({"say": "long work"}, {"wait": True}), thread)
    await home.marks(first, "👀")
    second = home.say("later", thread)
    await home.marks(second, "📥")
    assert "interrupted" in await home.ask("!steer imp do this instead")
    await home.marks(first, "⏭️")
    await home.marks(second, "✅")
    assert prompts(home, "imp")[1:] == ["do this instead", "later"]
    assert "no turn running" in await home.ask("!cancel imp")
    third = home.say(steps({"say": "more"}, {"wait": True}), thread)
    await home.marks(third, "👀")
    answer = await home.ask("!cancel imp")
    assert "is cancelled" in answer
    assert "still run" not in answer
    await home.marks(third, "⏹️")
    assert "✅" not in home.chat.reactions(first) + home.chat.reactions(third)
    await home.heard(thread, "⏭ This turn was cancelled: a message that `!steer` sent goes first.")
    await home.heard(thread, "⏹ The turn was cancelled.")


async def test_what_a_cancelled_turn_leaves_running_is_told_with_what_ends_it(home: House) -> None:
    thread = await home.launch("coder0")
    question = home.say("[[run: setsid sleep 1000 & echo begun]] [[wait: gate]]", thread)
    approval = re.findall(r"!approve (\w+)", await home.heard(thread, "asks for permission"))[0]
    await home.ask(f"!approve {approval}", conversation=thread)
    await home.marks(question, "👀")
    answer = await waiting.until(
        lambda: home.ask("!cutoff coder0"),
        lambda answer: "1 process that coder0 started still runs (`sleep`)" in answer,
    )
    assert "`!stop coder0 --now` ends it with the agent" in answer
    assert "still runs (`sleep`)" in await home.ask("!cancel coder0")
    await home.ask("!stop coder0 --now")
    await home.heard(thread, "Stopped")


@pytest.mark.slow
async def test_a_watch_keeps_one_message_up_to_date(home: House) -> None:
    thread = await launch(home, "imp")
    watch = await home.reply(home.chat.post("!watch imp"))
    await home.chat.until(lambda: "idle" in watch.text, limit=30)
    event = home.say(steps({"wait": True}), thread)
    await home.chat.until(lambda: "working" in watch.text, limit=30)
    await home.ask("!cancel imp")
    await home.marks(event, "⏹️")
    await home.ask("!stop imp")
    await home.chat.until(lambda: "stopped" in watch.text, limit=30)
    assert sum("· sandbox none" in text for text in home.chat.texts(ROOM)) == 1


@pytest.mark.slow
async def test_what_is_allowed_for_always_stays_so_over_restarts_of_both(tmp_path: Path) -> None:
    options = [
        {"optionId": "ever", "name": "Always", "kind": "allow_always"},
        {"optionId": "yes", "name": "Once", "kind": "allow_once"},
    ]
    ask = steps({"ask": {"title": "t", "rawInput": {"command": "c"}}, "options": options})
    async with house(tmp_path, roster=roster(tmp_path, "imp")) as home:
        async with home.open():
            thread = await launch(home, "imp")
            event = home.say(ask, thread)
            question = await home.heard(thread, "asks for permission")
            asked = next(said for said in home.chat.messages(thread) if said.text == question)
            home.chat.react(asked.event_id, "♾️", conversation=thread)
            await home.marks(event, "✅")
            await home.ask("!restart imp")
            await home.heard(thread, "going on with its conversation")
            await home.marks(home.say(ask, thread), "✅")
        async with home.open():
            await home.marks(home.say(ask, thread), "✅")
            grant = (await home.ask("!grants")).split("`")[1]
            assert "Taken back" in await home.ask(f"!grant revoke {grant}")
            home.say(ask, thread)
            await home.heard(thread, "asks for permission")
        answers = [item["answered"]["outcome"]["optionId"] for item in recorded(tmp_path, "imp") if "answered" in item]
        assert answers == ["yes", "yes", "yes"]


# --- what does not arrive ---------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_picture_reaches_an_agent_that_takes_pictures_and_is_refused_by_one_that_does_not(home: House) -> None:
    seeing, blind = await home.launch("coder0"), await launch(home, "imp")
    picture = home.chat.upload(PNG, name="../../plan\u202e.png", media_type="image/png")
    archive = home.chat.upload(b"PK", name="run.zip", media_type="application/zip")
    event = home.chat.post("[[say: seen]]", conversation=seeing, parent=ROOM, attachments=(picture, archive))
    await home.heard(seeing, "`run.zip` was not passed on")
    await home.marks(event, "✅")
    await home.heard(seeing, "seen")
    event = home.chat.post("look", conversation=blind, parent=ROOM, attachments=(picture,))
    await home.marks(event, "💀")
    assert "takes no pictures" in await home.heard(blind, "💀")
    await home.marks(home.say("in words then", blind), "✅")
    assert prompts(home, "imp") == ["in words then"]
    assert not list(home.paths.config.glob("plan*"))


@pytest.mark.slow
async def test_dead_letters_are_sent_again_in_both_directions(home: House) -> None:
    thread = await launch(home, "imp")
    event = home.say(steps({"say": "oh"}, {"exit": 1}), thread)
    await home.marks(event, "❌")
    await home.ask("!restart imp")
    await home.heard(thread, "going on with its conversation")
    await home.orchestrator.quiet()
    home.chat.script(MessageRefused("the room was shut"))
    sends = len(home.chat.wire)
    lost = home.chat.post("!whoami")
    await home.chat.until(lambda: len(home.chat.wire) > sends, limit=30)
    await home.orchestrator.quiet()
    letters = await home.ask("!dead-letters")
    assert "the room was shut" in letters
    outward = next(line for line in letters.splitlines() if "the room was shut" in line).split("`")[1]
    assert "Sent again to chat" in await home.ask(f"!retry {outward}")
    assert "memory:@ana" in (await home.reply(lost)).text
    inward = next(line for line in letters.splitlines() if "**imp**" in line).split("`")[1]
    before = len(prompts(home, "imp"))
    assert "Sent again to imp" in await home.ask(f"!retry {inward}")
    await home.chat.until(lambda: home.chat.reactions(event).count("❌") == 1, limit=30)
    await home.chat.until(
        lambda: sum("crashed during this turn" in text for text in home.chat.texts(thread)) == 2, limit=30
    )
    assert len(prompts(home, "imp")) == before + 1
