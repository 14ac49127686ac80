"""A task that is added in a room has a thread: what becomes of it is told there, and words in it reach its agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from connectors.contract.messages import OpenThread, Retitle
from connectors.delivery import outbox
from connectors.memory import ALL_CAPABILITIES
from core.crash_points import declare
from database import schema
from database.queries import tasks
from scheduler.dispatch.dispatch_loop import Dispatcher
from tests.bot.messaging.test_bridge import HALL, twin
from tests.bot.messaging.test_bridge import until as heard
from tests.bot.orchestrator import ROOM, House, house
from tests.bot.tasks.test_tasks import done, id_in, task_of, task_thread, until

STEP = declare("test.task_threads")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        made.chat.capabilities = replace(ALL_CAPABILITIES, titles=True)
        yield made


async def renamings(home: House, name: str) -> list[str]:
    """What a task's thread was called, one after the other; its first name is its opener's."""
    await home.orchestrator.delivery.idle()
    async with home.orchestrator.store.read() as tx:
        query = select(schema.outbox.c.content).where(schema.outbox.c.key.startswith("title/c/"))
        rows = await tx.execute(query.order_by(schema.outbox.c.seq))
        return [row.content["title"] for row in rows if name in row.content["title"]]


async def test_a_tasks_thread_is_called_as_it_stands_and_words_in_it_reach_its_agent(home: House) -> None:
    async with home.open():
        of_agent = await home.launch("coder0")
        said = await home.ask(
            "!task add 'Mend this, and do it well, with sk-test-not-a-real-key. [[say: looked]]' --agent coder0"
        )
        name = id_in(said)
        own = await task_thread(home, name)
        opener = home.chat.find((await task_of(home, name)).thread_key or "")
        assert opener is not None
        assert isinstance(opener.content, OpenThread)
        assert opener.content.title.startswith(f"⏳ {name} Mend ")
        assert "sk-test" not in opener.content.title, "a key that is cut in two is none that anybody knows"
        assert "sk-test" not in opener.text

        # Its turn ended without a word of its agent's: people see that in its thread, too.
        assert f"task close {name}" in await home.heard(own, "coder0 asks in its thread")
        await home.chat.until(lambda: own in home.chat.titles and home.chat.titles[own].title.startswith(f"✋ {name}"))

        home.say(f"And now end it. [[say: heard in here]] {done(task=name)}", own)
        await home.heard(own, "heard in here")
        assert not [text for text in home.chat.texts(of_agent) if "heard in here" in text]
        await home.heard(own, f"Task `{name}` is done. It works now.")
        await home.chat.until(lambda: home.chat.titles[own].archived)
        assert home.chat.titles[own].title.startswith(f"✅ {name}")
        called = await renamings(home, name)
        assert [title[0] for title in dict.fromkeys(called)] == ["⚙", "✋", "✅"], "and no more than that"
        assert [text for text in home.chat.texts(ROOM) if name in text] == [
            await home.heard(ROOM, f"✅ Task `{name}` is done")
        ]
        assert not [text for text in home.chat.texts(ROOM) if "sk-test" in text]

        home.say("[[say: once more]]", own)
        await home.heard(own, "once more")


async def test_wherever_a_task_is_cut_short_no_half_of_a_secret_shows(home: House) -> None:
    home.key = "correct horse battery staple"
    async with home.open():
        thread = await home.launch("coder0")
        told = f"Use {' and '.join([home.key] * 100)}. [[say: looked]]"
        name = id_in(await home.ask(f"!task add '{told}' --agent coder0"))
        own = await task_thread(home, name)
        await home.heard(own, "coder0 asks in its thread")
        heard = [
            await home.heard(thread, f"Task `{name}`"),
            await home.ask("!tasks"),
            await home.ask(f"!task show {name}"),
            await home.ask(f"!task close {name}"),
            await home.ask("!tasks --all"),
        ]
        await home.heard(own, "is done")
        assert all("[redacted]" in text for text in (*heard[:3], heard[-1]))
        assert not [each.text for each in home.chat.said if "correct" in each.text]


async def test_while_nobody_has_a_task_who_writes_in_its_thread_is_told_so(home: House) -> None:
    async with home.open() as orchestrator:
        name = id_in(await home.ask("!task add 'do it' --role research"))
        own = await task_thread(home, name)
        event = home.say("Are you there?", own)
        said = (await home.reply(event)).text
        assert f"No agent has task `{name}` yet" in said
        assert f"!task cancel {name}" in said
        assert "is cancelled" in await home.ask(f"!task cancel {name}", conversation=own)
        await home.heard(ROOM, f"🚫 Task `{name}` is cancelled")
        await home.chat.until(lambda: home.chat.titles.get(own, Retitle(title="")).archived)
        event = home.say("And now?", own)
        assert "no agent ever had it" in (await home.reply(event)).text
        # It was forgotten meanwhile.
        async with orchestrator.store.write(STEP) as tx:
            await tasks.forget(tx, orchestrator.services.clock() + 1)
        event = home.say("And still?", own)
        assert "is over and forgotten" in (await home.reply(event)).text


async def test_in_a_tasks_thread_its_commands_need_no_id(home: House) -> None:
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        first = id_in(await home.ask("!task add '[[say: looked]]' --agent coder0"))
        own = await task_thread(home, first)
        await home.heard(own, "coder0 asks in its thread")
        second = id_in(await home.ask("!task add 'do it' --role research"))
        other = await task_thread(home, second)

        assert f"`{first}`" in await home.ask("!task", conversation=own)
        assert f"`{second}`" in await home.ask("!task show", conversation=other)
        assert f"`{second}`" in await home.ask(f"!task {second}", conversation=own), "one that is named is that one"
        for conversation in (ROOM, thread):
            for line in ("!task", "!task cancel", "!task close --failed"):
                refused = await home.ask(line, conversation=conversation)
                assert "ID is missing" in refused
                assert "in a task's thread" in refused
        assert f"Task `{first}`" in await home.ask("!task close --failed", conversation=own)
        assert f"Task `{second}` is cancelled" in await home.ask("!task cancel", conversation=other)
        assert [(await task_of(home, name)).state for name in (first, second)] == ["failed", "cancelled"]
        async with orchestrator.store.read() as tx:
            rows = await tx.execute(select(schema.audit.c.arguments).where(schema.audit.c.action == "task cancel"))
            assert [row.arguments for row in rows][-1] == {"id": second}, "the audit says which"


async def test_what_is_refused_at_once_says_so_in_the_room_and_in_its_thread(home: House) -> None:
    async with home.open():
        name = id_in(await home.ask("!task add 'do it' --role research --deadline 1s"))
        own = await task_thread(home, name)
        assert "its deadline is past" in await home.heard(ROOM, "is refused")
        await home.heard(own, "is refused")
        assert sum(name in text for text in home.chat.texts(ROOM)) == 1
        await home.chat.until(lambda: home.chat.titles.get(own, Retitle(title="")).archived)


async def test_what_is_over_before_the_command_is_answered_reads_as_it_ended(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_once(dispatcher: Dispatcher) -> None:
        async with dispatcher.store.read() as tx:
            (task,) = await tasks.in_states(tx, ["queued"])
        await dispatcher.steps.refuse(task, "there is no time for it")

    monkeypatch.setattr(Dispatcher, "look_once", look_once)
    async with home.open() as orchestrator:
        said = await home.ask("!task add 'do it' --role research")
        await orchestrator.delivery.idle()
        assert home.chat.texts(ROOM) == [said]
        assert said.startswith("⛔ Task")


async def test_rooms_that_mirror_the_one_of_a_task_are_told_of_its_answer_and_its_end(tmp_path: Path) -> None:
    async with twin(tmp_path) as (home, east), home.open() as orchestrator:
        name = id_in(await home.ask("!task add 'do it' --role research --deadline 1s"))
        answer = await heard(east, HALL, "It has a thread on **memory**.")
        await heard(east, HALL, "is refused")
        await orchestrator.delivery.idle()
        told = [text for text in east.texts(HALL) if name in text]
        assert len(told) == 2, told
        assert answer in told


async def test_what_a_sweep_finds_is_called_as_it_stands(home: House) -> None:
    async with home.open() as orchestrator:
        name = id_in(await home.ask("!task add 'do it' --role research"))
        own = await task_thread(home, name)
        (job,) = [each for each in orchestrator.services.jobs.table if each.name == "titles"]
        await job.act()
        assert await renamings(home, name) == []
        async with orchestrator.store.write(STEP) as tx:
            now = orchestrator.services.clock()
            await tx.execute(update(schema.tasks).values(state="failed", ended_at=now))
        await job.act()
        await home.chat.until(lambda: own in home.chat.titles)
        assert home.chat.titles[own] == Retitle(title=f"❌ {name} do it", archived=True)


async def test_what_is_added_in_a_thread_has_none_of_its_own(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        name = id_in(await home.ask(f"!task add '{done()}'", conversation=thread))
        found = await until(home, name, "done")
        assert (found.assigned, found.thread_key) == ("coder0", None)
        await home.heard(thread, f"Task `{name}` is done")


async def test_where_there_are_no_threads_all_is_told_where_it_was_asked_for(home: House) -> None:
    home.chat.capabilities = replace(ALL_CAPABILITIES, threads=False)
    async with home.open():
        name = id_in(await home.ask("!task add 'do it' --role research --deadline 1s"))
        await home.heard(ROOM, "⛔")
        assert (await task_of(home, name)).thread_key is None
        assert sum(name in text for text in home.chat.texts(ROOM)) == 2


async def test_threads_of_which_nobody_wrote_down_whose_they_are_go_to_the_agents_they_are_named_after(
    home: House,
) -> None:
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        async with orchestrator.store.write(STEP) as tx:
            assert (await tx.execute(delete(schema.thread_owners))).rowcount == 1
            opener = await outbox.by_conversation(tx, "memory", thread)
        assert opener is not None
        home.say("[[say: still here]]", thread)
        await home.heard(thread, "still here")


async def test_an_agent_that_is_started_for_a_task_of_a_tasks_thread_has_its_thread_in_the_room(tmp_path: Path) -> None:
    roster = "agents:\n- {name: coder7, role: coder, runtime: sim, sandbox: none, persistent: false}\n"
    async with house(tmp_path, roster=roster) as home, home.open():
        own = await task_thread(home, id_in(await home.ask("!task add 'do it' --role research")))
        name = id_in(await home.ask(f"!task add '{done()}' --role coder", conversation=own))
        await until(home, name, "done")
        assert (await home.row("coder7")).room == ROOM
        await home.heard(own, f"Task `{name}` is done")
