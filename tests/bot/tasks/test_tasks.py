"""Tasks in a room: each goes to one agent once, and people see what becomes of it and what it cost."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bot.api_client import Client
from bot.config.dispatch import Dispatch
from bot.tasks import state_machine
from budget.dispatch import next_task
from database.queries import tasks
from database.queries.agents import agent_messages
from database.queries.tasks import Task
from fleet.runtimes import RUNTIMES
from fleet.supervision import host_lifecycle
from tests import waiting
from tests.bot.daily_limits import limit_of_a_day
from tests.bot.orchestrator import OPERATOR, ROOM, VIEWER, House, house


def done(status: str = "done", summary: str = "It works now.", **more: str) -> str:
    return f"[[tool: mcp__muster__task_done {json.dumps({'status': status, 'summary': summary, **more})}]]"


def id_in(text: str) -> str:
    found = re.search(r"Task `([0-9a-f]{8})`", text)
    assert found is not None, text
    return found[1]


async def task_of(home: House, task_id: str) -> Task:
    async with home.orchestrator.store.read() as tx:
        found = await tasks.get(tx, task_id)
    assert found is not None
    return found


async def task_thread(home: House, task_id: str) -> str:
    """The conversation of a task's thread, once it stands."""
    key = (await task_of(home, task_id)).thread_key
    assert key is not None
    return await home.opened_by(key)


async def test_a_task_goes_to_a_free_agent_and_ends_with_its_cost(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        await home.heard_from("coder0")
        said = await home.ask(f"!task add 'Mend it. {done()} [[say: over]]' --role coder")
        name = id_in(said)
        assert "goes to coder0" in said
        assert "Mend it" in await home.heard(thread, f"Task `{name}` from memory:@ana")
        last = await home.heard(thread, f"Task `{name}` is done")
        assert "It works now." in last
        assert re.search(r"Projected .*tokens.*, used .*tokens", last), last
        own = await task_thread(home, name)
        assert await home.heard(own, f"Task `{name}` is done") == last
        assert "Mend it" in await home.heard(ROOM, f"Task `{name}` is done")
        told = [text for text in home.chat.texts(ROOM) if name in text]
        assert len(told) == 1, f"the answer, which reads as the task ended: {told}"
        assert sum(name in text for text in home.chat.texts(own)) == 1, "and what it came to, in its thread"
        found = await task_of(home, name)
        assert (found.state, found.assigned, found.attempt, found.summary) == ("done", "coder0", 1, "It works now.")
        assert found.actual_tokens is not None
        assert found.actual_tokens > 0
        shown = await home.ask("!tasks --all")
        assert name in shown
        steps = await home.ask(f"!task {name[:5]}")
        assert "running" in steps
        assert "done" in steps


async def until(home: House, task_id: str, state: str) -> Task:
    """Wait until a task is in a state."""
    found = await waiting.until(lambda: task_of(home, task_id), lambda found: found.state == state)
    return found


async def test_a_task_whose_agent_says_nothing_waits_for_an_operators_word(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        first = id_in(await home.ask("!task add '[[say: I think so]]' --agent coder0"))
        question = await home.heard(thread, "ended without a result for")
        assert f"task close {first}" in question
        second = await home.ask(f"!task add '{done()}' --agent coder0")
        assert f"coder0 waits for your word on task {first}" in second
        await home.ask(f"!task close {first[:6]}")
        assert (await until(home, first, "done")).summary == "done, says memory:@ana"
        await home.heard(thread, f"Task `{first}` is done")
        await until(home, id_in(second), "done")
        refused = await home.ask(f"!task close {first}")
        assert "is done, and does not wait for an answer" in refused


async def test_an_agent_without_the_tool_ends_its_task_with_its_turn_or_by_a_word(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNTIMES, "sim", replace(RUNTIMES["sim"], tools=False))
    async with home.open():
        thread = await home.launch("coder0")
        first = id_in(await home.ask("!task add '[[say: I think so]]' --agent coder0"))
        await until(home, first, "done")
        await home.heard(thread, f"Task `{first}` is done")
        second = id_in(await home.ask("!task add '[[say: first]] [[wait: gate]]' --agent coder0"))
        await until(home, second, "running")
        await home.ask(f"!task close {second} --failed")
        assert (await until(home, second, "failed")).summary == "failed, says memory:@ana"


async def test_what_ended_after_a_long_time_is_counted_and_told_at_once(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        name = id_in(await home.ask("!task add '[[say: I think so]]' --agent coder0"))
        await home.heard(thread, "ended without a result for")
        clock = home.orchestrator.services.clock
        home.orchestrator.services.clock = lambda: clock() + 600
        await home.ask(f"!task cancel {name}")
        assert "used" in await home.heard(thread, f"Task `{name}` is cancelled")
        assert (await task_of(home, name)).actual_tokens is not None


@pytest.mark.slow
async def test_a_question_nobody_answers_keeps_an_agent_for_so_long_as_is_set(tmp_path: Path) -> None:
    async with house(tmp_path, settings="dispatch: {unanswered: 0}\n") as home, home.open():
        thread = await home.launch("coder0")
        first = id_in(await home.ask("!task add '[[say: I think so]]' --agent coder0"))
        assert "gets no other task" not in await home.heard(thread, "ended without a result for")
        # What it says now is said of the second alone, and what it says once more of none.
        second = id_in(await home.ask(f"!task add '{done(summary='second')}{done(summary='twice')}' --agent coder0"))
        assert (await until(home, second, "done")).summary == "second"
        third = id_in(await home.ask("!task add '[[say: who knows]]' --agent coder0"))
        await until(home, third, "waiting")
        assert ((found := await task_of(home, first)).state, found.summary) == ("waiting", None)
        # Of two that wait it says which.
        home.say(f"{done(summary='one')}[[say: which]]", thread)
        await home.heard(thread, "which")
        home.say(f"{done(summary='that', task=first)}[[say: that one]]", thread)
        assert (await until(home, first, "done")).summary == "that"
        assert (await task_of(home, third)).state == "waiting"
        # Now one waits, and the words in the thread go on with it.
        home.say(done(summary="this"), thread)
        assert (await until(home, third, "done")).summary == "this"


@pytest.mark.slow
async def test_what_an_agent_says_is_blocked_waits_and_goes_on_in_its_thread(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        name = id_in(await home.ask(f"!task add '{done('blocked', 'Which key?')}' --agent coder0"))
        assert "Which key?" in await home.heard(thread, "is blocked on task")
        assert (await task_of(home, name)).state == "waiting"
        home.say(f"This one. {done(summary='Used it.')}", thread)
        assert (await until(home, name, "done")).summary == "Used it."


async def test_an_agent_without_a_task_ends_none(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        home.say(f"{done()} [[say: tried]]", thread)
        await home.heard(thread, "tried")
        assert "task_done status=done | refused" in await home.ask("!audit")


def test_a_provider_that_is_away_for_five_minutes_fails_no_task_by_itself() -> None:
    pauses = [state_machine.retry_pause(attempt) for attempt in range(1, Dispatch().retries + 1)]
    assert pauses[0] == 30, "half a minute later it may be back"
    assert sum(pauses) > 300, pauses
    assert state_machine.retry_pause(10_000) == next_task.LONGEST_RETRY_S


@pytest.mark.slow
async def test_a_task_whose_agent_died_is_tried_again_and_no_more_often_than_it_may(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_machine, "FIRST_RETRY_S", 1.0)
    async with home.open():
        thread = await home.launch("coder0")
        name = id_in(await home.ask("!task add '[[say: begun]] [[wait: never]]' --agent coder0 --retries 1"))
        await until(home, name, "running")
        await host_lifecycle.kill(home.paths.agent_folder("coder0"))
        again = await home.heard(thread, f"Task `{name}` is tried again")
        assert "died in the middle of the turn" in again
        found = await task_of(home, name)
        assert (found.retries, found.attempt) == (0, 1)
        assert found.lane.endswith("/aside"), "what is behind it waits for no retry"
        found = await waiting.until(
            lambda: task_of(home, name), lambda found: found.attempt == 2 and found.state == "running", limit=40
        )
        await host_lifecycle.kill(home.paths.agent_folder("coder0"))
        last = await home.heard(thread, f"Task `{name}` failed")
        assert "died in the middle of the turn" in last
        async with home.orchestrator.store.read() as tx:
            found_messages = [await agent_messages.get(tx, f"task-{name}-{attempt}") for attempt in (1, 2, 3)]
        assert [each is not None and each.state for each in found_messages] == ["failed", "failed", False]


async def test_what_failed_is_not_tried_again_past_its_deadline_and_the_room_is_told_why_it_failed(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_machine, "FIRST_RETRY_S", 3600.0)
    async with home.open():
        thread = await home.launch("coder0")
        name = id_in(await home.ask("!task add '[[say: begun]] [[wait: never]]' --agent coder0 --deadline 30m"))
        await until(home, name, "running")
        await host_lifecycle.kill(home.paths.agent_folder("coder0"))
        last = await home.heard(thread, f"Task `{name}` failed")
        assert "died in the middle of the turn" in last
        assert "it would begin after its deadline" in last
        assert not [text for text in home.chat.texts("room") if "is tried again" in text]


async def test_what_a_task_used_before_it_was_refused_in_the_queue_is_told(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_machine, "FIRST_RETRY_S", 3600.0)
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        name = id_in(await home.ask("!task add '[[say: begun]] [[wait: never]]' --agent coder0"))
        await until(home, name, "running")
        await host_lifecycle.kill(home.paths.agent_folder("coder0"))
        await home.heard(thread, f"Task `{name}` is tried again")
        assert orchestrator.services.dispatcher is not None
        await orchestrator.services.dispatcher.steps.refuse(await task_of(home, name), "there is no time for it")
        assert "used" in await home.heard(thread, f"Task `{name}` failed")


async def test_a_task_is_cancelled_while_it_waits_and_while_it_runs(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        running = id_in(await home.ask("!task add '[[say: begun]] [[wait: never]]' --agent coder0"))
        waiting = id_in(await home.ask("!task add '[[say: never said]]' --agent coder0"))
        await until(home, running, "running")
        assert "is cancelled" in await home.ask(f"!task cancel {waiting}")
        assert "turn of coder0 was ended" in await home.ask(f"!task cancel {running}")
        await home.heard(thread, f"Task `{running}` is cancelled")
        assert "is over" in await home.ask(f"!task cancel {running}")
        after = id_in(await home.ask(f"!task add '{done()}' --agent coder0"))
        await until(home, after, "done")
        assert (await task_of(home, waiting)).attempt == 0


async def test_a_task_whose_turn_was_not_accepted_yet_is_cancelled_with_it(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        name = id_in(await home.ask("!task add '[[wait: never]] [[say: never said]]' --agent coder0"))
        await waiting.until(lambda: any("never said" in entry.text for entry in home.models.ledger.entries))
        assert (await task_of(home, name)).state == "dispatched"
        assert "is cancelled" in await home.ask(f"!task cancel {name}")
        assert "used " in await home.heard(thread, f"Task `{name}` is cancelled")
        # Nothing of it is held for it any more, and its agent goes on with the next.
        assert (await task_of(home, name)).actual_tokens is not None
        await until(home, id_in(await home.ask(f"!task add '{done()}' --agent coder0")), "done")


async def test_an_agent_of_the_roster_is_started_for_a_task(tmp_path: Path) -> None:
    roster = "agents:\n- {name: coder7, role: coder, runtime: sim, sandbox: none, persistent: false}\n"
    async with house(tmp_path, roster=roster) as home, home.open():
        name = id_in(await home.ask(f"!task add '{done()}' --role coder"))
        found = await until(home, name, "done")
        assert found.assigned == "coder7"


WRONG = (
    ("--role codr", "coder"),
    ("--agent nobody", "No agent is called"),
    ("--role coder --deadline 2001-01-01", "2001-01-01 00:00 (UTC) is past"),
    ("--role coder --deadline soon", "write a length of time"),
    ("--role coder --estimate 99999G", "--estimate"),
    ("--role coder --estimate -5", "estimate"),
    ("--role coder --kind turn", "--kind"),
    ("--role coder --retries 99", "0 to 20"),
    ("--role coder --parent ffffffff", "No task is called"),
    ("--role coder --urgency urgent", "critical"),
)


async def test_what_cannot_be_meant_is_refused_with_the_way_out(home: House) -> None:
    async with home.open():
        assert "--role ROLE or --agent NAME" in await home.ask("!task add 'do it'")
        for options, said in WRONG:
            assert said in await home.ask(f"!task add 'do it' {options}"), options
        assert "operator" in await home.ask("!task add 'do it' --role coder", sender=VIEWER)
        assert "No task is called" in await home.ask("!task cancel 12345678")
        assert "No task waits" in await home.ask("!tasks")


async def test_a_task_nobody_can_do_says_so_and_is_refused_at_its_deadline(home: House) -> None:
    async with home.open():
        said = await home.ask("!task add 'do it' --role research --deadline 2s")
        assert "No agent has the role research." in said
        assert not [text for text in home.chat.texts(ROOM) if "waits" in text]
        assert "its deadline is past" in await home.heard(ROOM, "is refused")
        assert (await task_of(home, id_in(said))).state == "failed"


def a_day_of(tokens: int) -> str:
    """Settings by which so many tokens may be used on a day, with a line that hardly rises while a test runs."""
    return f"budgets:\n  host: {limit_of_a_day(tokens)}\npacing: {{burst: 0%}}\n"


HELD = a_day_of(50_000)
#: What brings the use further ahead of that line than a day.
MUCH = "[[cache: 0 200000]][[say: spent]]"


async def spend(home: House, thread: str) -> None:
    """Have an agent use so much that what people say is held."""
    await home.marks(home.say(MUCH, thread), "✅")
    await used(home, 200_000)


async def spend_again(home: House, thread: str) -> None:
    """Have it use what was authorized, and as much again."""
    await home.ask("!budget authorize host 0")
    await home.ask("!budget authorize host 200k --for 5m")
    await home.marks(home.say(MUCH, thread), "✅")
    await used(home, 400_000)
    await home.ask("!budget authorize host 0")


async def used(home: House, tokens: int) -> None:
    """Wait until it is counted that so much was used."""
    services = home.orchestrator.services
    await waiting.until(
        services.pace.snapshot, lambda found: any(each.window.least_use >= tokens for each in found.standings.values())
    )


async def test_the_first_words_under_a_daily_budget_are_not_held(tmp_path: Path) -> None:
    settings = "budgets:\n  host: {tokens: 200k, window: day}\n"
    async with house(tmp_path, settings=settings) as home, home.open():
        thread = await home.launch("coder0")
        await home.marks(home.say("[[say: hello]]", thread), "✅")
        assert not [text for text in home.chat.texts(thread) if "reads this later" in text or "ahead of" in text]


async def test_words_ahead_of_the_pace_say_so_once_and_are_counted(tmp_path: Path) -> None:
    async with house(tmp_path, settings=HELD) as home, home.open():
        thread = await home.launch("coder0")
        await home.marks(home.say("[[cache: 0 40000]][[say: spent]]", thread), "✅")
        await used(home, 40_000)
        await home.marks(home.say("[[say: and this]]", thread), "✅")
        told = [text for text in home.chat.texts(thread) if "ahead of today's pace" in text]
        assert len(told) == 1
        assert re.match(r"⏩ About \d+(\.\d)?k tokens ahead of today's pace \(`host`\)\.", told[0]), told


async def test_words_that_the_pace_holds_say_so_at_once_and_run_when_it_is_authorized(tmp_path: Path) -> None:
    async with house(tmp_path, settings=HELD) as home, home.open():
        thread = await home.launch("coder0")
        await spend(home, thread)
        event = home.say("[[say: at last]]", thread)
        held = await home.heard(thread, "reads this later")
        assert "host" in held
        assert "It runs about" in held
        command = re.search(r"budget authorize host (\d+) --for 1h", held)
        assert command is not None, held
        assert re.search(r"coder0 \| [^|]* idle [^|]*\| held by the pace for \d", await home.ask("!ps"))
        behind = home.say("[[say: after that]]", thread)
        await home.chat.until(
            lambda: sum("reads this later" in text for text in home.chat.texts(thread)) == 2, limit=30
        )
        sent = await home.ask("!send coder0 regretted")
        assert "reads this later" in sent
        async with home.orchestrator.store.read() as tx:
            assert [task.text for task in await tasks.held_turns(tx, "coder0")][-1] == "regretted"
        await home.ask(f"!task cancel {id_in(sent.replace('(task', 'Task'))}")
        await home.ask("!budget authorize host 900k --for 1h")
        await home.marks(event, "✅")
        await home.marks(behind, "✅")
        said = home.chat.texts(thread)
        assert said.index("at last") < said.index("after that")
        assert not any("regretted" in entry.text for entry in home.models.ledger.entries)


async def test_what_is_held_has_a_button_and_a_command_that_run_it_now(tmp_path: Path) -> None:
    async with house(tmp_path, settings=HELD) as home, home.open():
        thread = await home.launch("coder0")
        await spend(home, thread)
        words = home.say("[[say: by button]]", thread)
        await home.heard(thread, "reads this later")
        (asked,) = [said for said in home.chat.said if "reads this later" in said.text]
        home.chat.react(asked.event_id, "▶️", sender=OPERATOR, conversation=thread)
        await home.heard(thread, "Only admins answer this; you are operator.")
        home.chat.react(asked.event_id, "▶️", conversation=thread)
        await home.marks(words, "✅")
        over = await home.heard(thread, "of `host` more may be used in the next hour")
        assert "reads this later" in over, "why it waited stays readable"
        await spend_again(home, thread)
        home.say("[[say: dropped]]", thread)
        await home.chat.until(
            lambda: sum("reads this later" in text for text in home.chat.texts(thread)) == 2, limit=30
        )
        asked = [said for said in home.chat.said if "reads this later" in said.text][-1]
        home.chat.react(asked.event_id, "🗑️", sender=OPERATOR, conversation=thread)
        await home.heard(thread, "is dropped. (by")
        said = await home.ask("!task add 'mend it' --agent coder0")
        task = re.search(r"`!task now ([0-9a-f]{8})` authorizes that, and has it go first", said)
        assert task is not None, said
        assert "goes first" in await home.ask(f"!task now {task[1]}")
        found = await until(home, task[1], "waiting")
        assert (found.urgency, found.attempt) == ("critical", 1)
        refused = await home.ask(f"!task now {task[1]}")
        assert f"Task `{task[1]}` waits for nothing: it is waiting." in refused


async def test_the_command_that_held_words_name_runs_them_with_all_that_stands_before_them(tmp_path: Path) -> None:
    async with house(tmp_path, settings=HELD) as home, home.open():
        await home.launch("coder1")
        thread = await home.launch("coder0")
        await spend(home, thread)
        first = home.say("[[say: one]]", thread)
        await home.heard(thread, "reads this later")
        await home.ask("!send coder1 '[[say: two]]'")
        told = await home.ask("!send coder0 '[[say: three]]'")
        command = re.search(r"To run it now, and 2 before it, an admin writes `!(budget authorize [^`]+)`", told)
        assert command is not None, told
        await home.ask(f"!{command[1]}")
        await home.marks(first, "✅")
        await home.heard(thread, "three")


async def test_what_lets_a_task_begin_now_is_told_as_a_whole_command_where_it_is_read(tmp_path: Path) -> None:
    async with house(tmp_path, settings=HELD) as home, home.open():
        await home.launch("coder0")
        await home.heard_from("coder0")
        said = await home.ask("!task add 'mend it' --agent coder0")
        assert "It runs about" in said
        command = re.search(r"an admin writes `!(budget authorize host \d+ --for 1h)`", said)
        assert command is not None, said
        await home.ask(f"!task cancel {id_in(said)}")
        refused = await home.ask("!task add 'mend it' --agent coder0 --deadline 9s")
        assert "is refused: nothing lets it begin before its deadline" in refused
        assert ".." not in refused
        arguments = {"text": "mend it", "agent": "coder0"}
        there = await asyncio.to_thread(lambda: Client(home.paths.gateway_socket).run("task add", arguments).body)
        assert f"`muster {command[1]}`" in there["text"]
        await home.ask(f"!{command[1]}")
        assert (await until(home, id_in(there["text"]), "waiting")).attempt == 1


async def test_words_that_are_held_can_be_taken_back_and_steering_is_not_held(tmp_path: Path) -> None:
    async with house(tmp_path, settings=HELD) as home, home.open():
        thread = await home.launch("coder0")
        await spend(home, thread)
        event = home.say("[[say: never]]", thread)
        await home.heard(thread, "reads this later")
        home.chat.redact(event, sender="@ana", conversation=thread)
        async with asyncio.timeout(30):
            while True:
                async with home.orchestrator.store.read() as tx:
                    if not await tasks.held_turns(tx, "coder0"):
                        break
                await asyncio.sleep(0.02)
        assert "reads this first" in await home.ask("!steer coder0 '[[say: at once]]'")


@pytest.mark.slow
async def test_words_that_were_held_can_be_taken_back_until_they_are_read(tmp_path: Path) -> None:
    async with house(tmp_path, settings=HELD) as home, home.open():
        thread = await home.launch("coder0")
        await spend(home, thread)
        event = home.say("[[say: never]]", thread)
        name = id_in((await home.heard(thread, "reads this later")).replace("(task", "Task"))
        await home.ask("!freeze coder0")
        await home.ask("!budget authorize host 190k --for 1h")
        await until(home, name, "dispatched")
        home.chat.redact(event, sender="@ana", conversation=thread)
        await until(home, name, "cancelled")


@pytest.mark.slow
async def test_what_is_blocked_waits_for_a_person_though_its_agent_dies(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        key = f"{'x' * 590} {home.key}"
        name = id_in(await home.ask(f"!task add '{done('blocked', key)} [[wait: never]]' --agent coder0"))
        said = await home.heard(thread, "is blocked on task")
        assert "sk-test" not in said
        assert (await until(home, name, "waiting")).attempt == 1
        assert "sk-test" not in str((await task_of(home, name)).summary)
        await host_lifecycle.kill(home.paths.agent_folder("coder0"))
        async with asyncio.timeout(40):
            while True:
                async with home.orchestrator.store.read() as tx:
                    message = await agent_messages.get(tx, f"task-{name}-1")
                if message is not None and message.state == "failed":
                    break
                await asyncio.sleep(0.05)
        found = await task_of(home, name)
        assert (found.state, found.attempt, found.retries) == ("waiting", 1, 4)
        await home.ask(f"!task close {name} --failed")
        await until(home, name, "failed")


@pytest.mark.slow
async def test_who_is_cut_off_gets_no_task_until_the_way_out_is_open_again(home: House) -> None:
    async with home.open():
        await home.launch("coder0")
        await home.ask("!cutoff coder0")
        said = await home.ask(f"!task add '{done()}' --agent coder0")
        assert "frozen or cut off" in said
        await home.ask("!restore coder0")
        home.orchestrator.services.dispatcher.net_s = 0.5
        home.orchestrator.services.dispatcher.wake()
        await until(home, id_in(said), "done")


def tool(name: str, **arguments: str) -> str:
    return f"[[tool: mcp__muster__{name} {json.dumps(arguments)}]]"


FULL = "dispatch: {at_once: {host: 0}, queued: {person: 2, agent: 1}}\n"


async def test_who_asks_for_more_than_may_wait_is_told_so_and_an_agent_what_became_of_its_urgency(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, settings=FULL) as home, home.open() as orchestrator:
        lead = await home.launch("lead0", "--role orchestrator")
        for text, says in (
            ("for now", "You asked for the urgency high; what an agent of your role asks for is normal at most"),
            ("and this", "You have 1 tasks in the queue, and 1 are allowed (dispatch.queued.agent in muster.yaml)"),
        ):
            home.say(tool("task_add", text=text, role="coder", urgency="high"), lead)
            await home.heard(lead, says)
        for text in ("one", "two"):
            await home.ask(f"!task add '{text}' --role coder --urgency high")
        refused = await home.ask("!task add 'three' --role coder")
        assert "You have 2 tasks in the queue, and 2 are allowed (dispatch.queued.person in muster.yaml)" in refused
        assert "`!task cancel ID`" in refused
        home.paths.muster_yaml.write_text(home.paths.muster_yaml.read_text().replace("person: 2", "person: 1"))
        assert "how tasks are dispatched" in await home.ask("!roster apply")
        assert "You have 2 tasks in the queue, and 1 are allowed" in await home.ask("!task add 'four' --role coder")
        async with orchestrator.store.read() as tx:
            found = await tasks.listing(tx)
        people = {task.operator for task in found if not task.operator.startswith("agent:")}
        assert {task.charged_to for task in found if task.operator == "agent:lead0"} == people, "it worked for them"
        waiting = [(task.text, task.urgency) for task in found]
        assert waiting == [("for now", "normal"), ("one", "high"), ("two", "high")], "what was queued stays"


@pytest.mark.slow
async def test_an_agent_asks_for_no_more_than_it_may(home: House) -> None:
    async with home.open():
        lead = await home.launch("lead0", "--role orchestrator")
        mine = id_in(await home.ask("!task add 'mine' --role research"))
        calls = (
            tool("task_add", text="at any cost", role="coder", urgency="critical"),
            tool("task_cancel", id=mine),
            tool("task_add", text="for later", role="coder", urgency="high"),
        )
        home.say(f"{''.join(calls)}[[say: so]]", lead)
        await home.heard(lead, "so")
        queue = await home.ask("!tasks")
        assert "at any cost" not in queue
        assert "for later" in queue
        assert (await task_of(home, mine)).state == "queued"
        audit = await home.ask("!audit")
        assert "task cancel" in audit
        assert "refused" in audit
