"""What an operator sees in the room: launching, talking, receipts, approvals, strangers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from bot.commands.checkpoints import RecordedSteps
from connectors.contract.messages import Batch, Inbound, Text
from connectors.delivery import inbox
from core.crash_points import declare
from database import schema
from database.engine.store import Store
from database.queries.operations import audit_log
from tests.bot.orchestrator import OPERATOR, ROOM, STRANGER, VIEWER, House, house

FORGET = declare("test.forget_agent")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made, made.open():
        yield made


@pytest.mark.slow
async def test_an_agent_is_launched_talked_to_and_stopped(home: House) -> None:
    thread = await home.launch("coder0")
    event = home.say("hello there [[say: general greetings]]", thread)
    await home.heard(thread, "general greetings")
    await home.marks(event, "📥", "👀", "✅")
    assert "idle" in await home.ask("!ps")
    await home.ask("!stop coder0")
    await home.heard(thread, "Stopped")
    assert "No agent runs" in await home.ask("!ps")

    def notes() -> list[str]:
        return [text for text in home.chat.texts(thread) if "will read this" in text]

    waiting = [home.say(f"[[say: {word}]]", thread) for word in ("first", "second")]
    await home.heard(thread, "!launch coder0")
    await home.ask("!launch coder0")
    for event in waiting:
        await home.marks(event, "✅")
    assert len(notes()) == 1
    await home.ask("!stop coder0")
    home.say("[[say: third]]", thread)
    await home.chat.until(lambda: len(notes()) == 2, limit=30)


@pytest.mark.slow
async def test_the_answer_stands_once_and_exactly(home: House) -> None:
    thread = await home.launch("coder0")
    home.say("[[say: one **two** `three`]]", thread)
    await home.heard(thread, "one **two** `three`")
    event = home.say("[[say: next]]", thread)
    await home.marks(event, "✅")
    assert home.chat.texts(thread).count("one **two** `three`") == 1


async def test_a_second_launch_changes_nothing_and_says_so(home: House) -> None:
    await home.launch("coder0")
    assert "runs already" in await home.ask("!launch coder0 --runtime sim --sandbox none")


async def test_words_in_the_room_go_to_the_orchestrator_and_are_answered_there(home: House) -> None:
    assert "launch" in await home.ask("is anybody here?")
    await home.launch("lead", "--role", "orchestrator")
    home.chat.post("[[say: I am in charge]]")
    await home.heard(ROOM, "I am in charge")


@pytest.mark.slow
async def test_a_permission_is_asked_with_the_whole_command_and_given_by_reaction(home: House) -> None:
    thread = await home.launch("coder0")
    home.say("[[run: echo permitted > proof.txt]]", thread)
    question = await home.heard(thread, "asks for permission")
    assert "echo permitted > proof.txt" in question
    asked = next(said for said in home.chat.messages(thread) if said.text == question)
    home.chat.react(asked.event_id, "✅", conversation=thread)
    await home.chat.until(lambda: "☑️" in asked.text, limit=30)
    proof = home.paths.workspace("coder0") / "proof.txt"
    await home.chat.until(proof.exists, limit=30)
    assert proof.read_text() == "permitted\n"


async def test_only_operators_answer_and_each_request_once(home: House) -> None:
    thread = await home.launch("coder0")
    home.say("[[run: echo no > proof.txt]]", thread)
    question = await home.heard(thread, "asks for permission")
    asked = next(said for said in home.chat.messages(thread) if said.text == question)
    home.chat.react(asked.event_id, "✅", sender=VIEWER, conversation=thread)
    await home.heard(thread, "Only operators answer")
    home.chat.react(asked.event_id, "✅", sender=STRANGER, conversation=thread)
    home.chat.react(asked.event_id, "❌", sender=OPERATOR, conversation=thread)
    await home.chat.until(lambda: "☑️" in asked.text, limit=30)
    home.chat.react(asked.event_id, "✅", conversation=thread)
    await home.heard(thread, "Too late")
    assert not (home.paths.workspace("coder0") / "proof.txt").exists()


async def test_what_is_allowed_for_always_is_not_asked_again_until_taken_back(home: House) -> None:
    thread = await home.launch("coder0")
    home.say("[[run: echo again >> proof.txt]]", thread)
    question = await home.heard(thread, "asks for permission")
    approval = question.split("permission `")[1].split("`")[0]
    await home.ask(f"!approve {approval} --always", conversation=thread)
    proof = home.paths.workspace("coder0") / "proof.txt"
    await home.chat.until(proof.exists, limit=30)
    event = home.say("[[run: echo again >> proof.txt]]", thread)
    await home.marks(event, "✅")
    assert proof.read_text() == "again\nagain\n"
    grants = await home.ask("!grants")
    assert "echo again" in grants
    assert "Taken back" in await home.ask(f"!grant revoke {grants.split('`')[1]}")
    home.say("[[run: echo again >> proof.txt]]", thread)
    await home.chat.until(lambda: sum("asks for permission" in t for t in home.chat.texts(thread)) == 1, limit=30)


async def test_a_stranger_gets_one_line_a_day_and_reaches_nothing(home: House) -> None:
    for word in ("!ps", "!launch evil", "hello"):
        home.chat.post(word, sender=STRANGER)
    await home.heard(ROOM, "Only operators can command this fleet")
    assert "evil" in await home.ask("!audit")
    assert sum("Only operators can command this fleet" in text for text in home.chat.texts(ROOM)) == 1
    assert "No agent runs" in await home.ask("!ps")


async def test_an_edit_is_not_a_second_prompt(home: House) -> None:
    thread = await home.launch("coder0")
    event = home.say("[[say: first]]", thread)
    await home.marks(event, "✅")
    home.chat.edit(event, "[[say: second]]", conversation=thread)
    await home.heard(thread, "Edits are not read any more: coder0 has the message as it was first written.")
    assert len(home.models.ledger.entries) == 1


async def test_an_edit_of_what_still_waits_is_read_instead(home: House) -> None:
    thread = await home.launch("coder0")
    home.say("[[wait: gate]] first", thread)
    queued = home.say("[[say: never]]", thread)
    await home.marks(queued, "📥")
    home.chat.edit(queued, "[[say: rather this]]", conversation=thread)
    home.chat.edit(queued, "[[say: or this]]", conversation=thread)
    # In the same thread, so after the edits.
    listed = await home.ask("!queue coder0", conversation=thread)
    assert "1 message waits for coder0." in listed
    assert "[[say: or this]]" in listed
    # Neither somebody else's edit, nor one that is a command, changes it.
    home.chat.edit(queued, "[[say: hostile]]", conversation=thread, sender=OPERATOR)
    home.chat.edit(queued, "!stop coder0", conversation=thread)
    await home.heard(thread, "Edits are not read any more")
    home.models.release("gate")
    await home.marks(queued, "✅")
    await home.heard(thread, "or this")
    prompts = [entry.text for entry in home.models.ledger.entries]
    assert not any("never" in text or "rather" in text or "hostile" in text for text in prompts)


async def test_an_edit_before_the_agent_runs_is_what_it_reads(home: House) -> None:
    thread = await home.launch("coder0")
    await home.ask("!freeze coder0")
    event = home.say("[[say: never]]", thread)
    await home.heard(thread, "this and later messages wait")
    home.chat.edit(event, "[[say: instead]]", conversation=thread)
    assert "instead" in await home.ask("!queue coder0", conversation=thread)
    await home.ask("!resume coder0")
    await home.marks(event, "✅")
    await home.heard(thread, "instead")
    assert not any("never" in entry.text for entry in home.models.ledger.entries)


async def test_a_message_taken_back_while_queued_is_never_read(home: House) -> None:
    thread = await home.launch("coder0")
    home.say("[[wait: gate]] first", thread)
    queued = home.say("[[say: never]]", thread)
    await home.marks(queued, "📥")
    home.chat.redact(queued, conversation=thread)
    await home.marks(queued, "↩️")
    home.models.release("gate")
    last = home.say("[[say: last words]]", thread)
    await home.marks(last, "✅")
    assert "never" not in " ".join(home.chat.texts(thread))


async def test_a_text_that_comes_as_a_file_is_read_and_a_message_of_which_nothing_is_left_is_none(home: House) -> None:
    thread = await home.launch("coder0")
    pasted = home.chat.upload(b"[[say: read it]]", name="message.txt", media_type="text/plain")
    await home.marks(home.chat.post("", conversation=thread, parent=ROOM, attachments=(pasted,)), "✅")
    await home.heard(thread, "read it")
    archive = home.chat.upload(b"PK", name="all.zip", media_type="application/zip")
    long = home.chat.upload(b"a" * 70_000, name="long.txt", media_type="text/plain")
    event = home.chat.post("", conversation=thread, parent=ROOM, attachments=(archive, long))
    said = (await home.reply(event)).text
    assert "`all.zip` was not passed on" in said
    assert "`long.txt` was not passed on" in said
    await home.marks(home.say("[[say: still there]]", thread), "✅")
    home.chat.post("!ps", attachments=(archive,))
    await home.heard(ROOM, "Files that come with a command are not passed on")
    assert len(home.models.ledger.entries) == 2, "no turn for nothing"


async def test_kill_asks_first_and_only_the_same_person_confirms(home: House) -> None:
    await home.launch("coder0")
    event = home.chat.post("!kill coder0")
    question = await home.reply(event)
    assert "`!kill coder0` cannot be undone. React" in question.text
    home.chat.react(question.event_id, "✅", sender=OPERATOR)
    await home.heard(ROOM, "can confirm")
    home.chat.react(question.event_id, "✅")
    await home.heard(ROOM, "is killed")
    assert "stopped" in await home.ask("!ps --all")


async def test_a_confirmation_in_words_is_about_the_same_command_when_its_event_comes_again(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("older", "newer"):
        await home.ask(f"!add {name}")
        await home.ask(f"!remove {name}")
    broke = 0

    def break_once(*given: Any, **more: Any) -> RecordedSteps:
        nonlocal broke
        broke += 1
        if broke == 1:
            raise RuntimeError("as if it had been killed there")
        return RecordedSteps(*given, **more)

    monkeypatch.setattr("bot.commands.executor.RecordedSteps", break_once)
    await home.ask("!confirm")
    assert broke == 2
    listed = await home.ask("!roster")
    assert "newer" not in listed
    assert "older" in listed, "nobody confirmed that"


async def test_a_command_with_a_slip_says_what_was_meant(home: House) -> None:
    assert "!launch" in await home.ask("!lunch coder0")
    assert "NAME" in await home.ask("!stop")
    assert "No agent is called" in await home.ask("!stop nobody")
    assert "PERMISSION" not in await home.ask("!ps", sender=VIEWER)
    assert "operator" in await home.ask("!launch coder0", sender=VIEWER)
    assert "only an admin" in await home.ask("!launch coder0 --runtime sim --sandbox none", sender=OPERATOR)


@pytest.mark.slow
async def test_a_stopped_agent_goes_on_with_its_conversation_when_it_is_launched_again(home: House) -> None:
    thread = await home.launch("coder0")
    await home.marks(home.say("[[say: first]]", thread), "✅")
    await home.ask("!stop coder0")
    await home.heard(thread, "Stopped")
    waiting = home.say("[[say: second]]", thread)
    await home.heard(thread, "is stopped")
    await home.ask("!launch coder0 --runtime sim --sandbox none")
    await home.heard(thread, "going on with its conversation")
    await home.marks(waiting, "✅")
    await home.ask("!restart coder0")
    await home.marks(home.say("[[say: third]]", thread), "✅")
    assert [text for text in home.chat.texts(thread) if text in {"first", "second", "third"}] == [
        "first",
        "second",
        "third",
    ]


@pytest.mark.slow
async def test_an_agent_launched_in_another_room_is_still_reached_in_its_old_thread(home: House) -> None:
    await home.launch("lead", "--role", "orchestrator")
    old = await home.launch("coder0")
    await home.ask("!stop coder0")
    await home.heard(old, "Stopped")
    await home.reply(home.chat.post("!launch coder0 --runtime sim --sandbox none", conversation="elsewhere"))
    new = await home.thread("coder0")
    assert new != old
    await home.heard(new, "Ready")
    home.say("[[say: heard in the old thread]]", old)
    await home.heard(old, "heard in the old thread")
    home.say("[[say: heard in the new thread]]", new)
    await home.heard(new, "heard in the new thread")
    assert "heard in" not in " ".join([*home.chat.texts(ROOM), *home.chat.texts("elsewhere")])
    assert "heard in" not in await home.ask("!tail lead 200")
    assert "heard in the old thread" in await home.ask("!tail coder0 200")


@pytest.mark.slow
async def test_words_in_the_thread_of_an_agent_that_is_no_more_go_to_nobody_else(home: House) -> None:
    await home.launch("lead", "--role", "orchestrator")
    thread = await home.launch("coder0")
    await home.ask("!stop coder0")
    await home.heard(thread, "Stopped")
    async with home.orchestrator.store.write(FORGET) as tx:
        await tx.execute(delete(schema.agents).where(schema.agents.c.name == "coder0"))
    home.say("[[say: not for the orchestrator]]", thread)
    await home.heard(thread, "This was the thread of coder0")
    assert not home.models.ledger.entries


async def test_a_reaction_among_people_waits_for_no_send_that_it_cannot_be_about(home: House) -> None:
    home.chat.hang("elsewhere")
    home.chat.post("!whoami", conversation="elsewhere")
    await home.chat.until(lambda: home.chat.wire, limit=30)
    among_people = home.chat.post("!whoami", sender=STRANGER)
    home.chat.react(among_people, "👍")
    assert "admin" in await home.ask("!whoami")
    home.chat.release("elsewhere")


async def test_everybody_in_a_group_has_its_permission_as_it_was_when_they_wrote(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        file = made.paths.muster_yaml
        file.write_text(file.read_text().replace("operators:\n", "operators:\n  memory:role:7: operator\n"))
        async with made.open():
            made.chat.groups["@gil"] = ("role:6", "role:7")
            event = made.chat.post("!whoami", sender="@gil")
            del made.chat.groups["@gil"]
            assert "permission operator" in (await made.reply(event)).text
            made.chat.post("!whoami", sender="@gil")
            await made.heard(ROOM, "Only operators can command this fleet")
            made.chat.groups["@guy"] = ("role:7",)
        # What stood in the inbox when Muster ended, is judged by what its author was.
        left = Inbound(
            connector="memory",
            event_id="left",
            conversation=ROOM,
            sender="@gus",
            sent_at=made.clock(),
            body=Text(text="!whoami"),
            groups=("role:7",),
        )
        store = await Store.open(f"sqlite:///{made.paths.state}/register.db")
        async with store.write(FORGET) as tx:
            await inbox.accept(tx, "memory", Batch(events=(left,), cursor=None), made.clock())
        await store.close()
        async with made.open():
            assert "permission operator" in (await made.reply(left.event_id)).text
            await made.ask("!operator set memory:role:7 none")
            made.chat.post("!whoami", sender="@guy")
            told = "Only operators can command this fleet"
            await made.chat.until(lambda: sum(told in text for text in made.chat.texts(ROOM)) == 2, limit=30)


async def test_the_audit_names_the_group_by_which_somebody_was_allowed_to(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        file = made.paths.muster_yaml
        file.write_text(file.read_text().replace("operators:\n", "operators:\n  memory:role:7: admin\n"))
        async with made.open() as orchestrator:
            made.chat.groups["@gil"] = ("role:6", "role:7")
            assert "admin, as one of `memory:role:7`." in await made.ask("!whoami", sender="@gil")
            assert "permission admin." in await made.ask("!whoami")
            thread = await made.launch("coder0")
            made.say("[[run: echo permitted > proof.txt]]", thread)
            question = await made.heard(thread, "asks for permission")
            asked = next(said for said in made.chat.messages(thread) if said.text == question)
            made.chat.react(asked.event_id, "✅", sender="@gil", conversation=thread)
            await made.chat.until(lambda: "☑️" in asked.text, limit=30)
            assert "coder0 stops" in await made.ask("!stop coder0", sender="@gil")
            assert "| memory:@gil as memory:role:7 | chat | stop name=coder0" in await made.ask("!audit")
            async with orchestrator.store.read() as tx:
                rows = await audit_log.since(tx, 0.0, limit=50)
    by = {(row.action, row.identity): row.through for row in rows}
    assert by["answer allow", "memory:@gil"] == "memory:role:7"
    assert by["permission of coder0", "memory:@gil"] == "memory:role:7"
    assert by["stop", "memory:@gil"] == "memory:role:7"
    assert by["launch", "memory:@ana"] is None


async def test_what_a_connector_has_to_say_is_said_whoever_it_is_about(home: House) -> None:
    home.chat.remark("This could not be read: `muster matrix devices` and `rm -rf` say more.", sender=STRANGER)
    said = await home.heard(ROOM, "could not be read")
    assert said == "This could not be read: `!matrix devices` and `rm -rf` say more."
    await home.ask("!ps")
    assert not [text for text in home.chat.texts(ROOM) if "for the operators" in text]
