"""Short scripts of an operator's day. Each can be played again and again in one room, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from fleet.journal.events import RuntimeStarted
from fleet.supervision import host_lifecycle, host_lock
from tests.operator_client import Event, Operator, body, relation, thread_root
from tests.system import tool_calls
from tests.system.installation import LIMIT
from tests.system.matrix_installation import Installation
from tests.system.operator_record import FINISHED, WITHDRAWN, Books, Message

Scene: TypeAlias = Callable[["Stage"], Awaitable[None]]

#: The agent that is there from the beginning.
STANDING = "coder0"
#: An agent that may launch others, where a scene is about one.
LEAD = "lead0"


@dataclass(slots=True)
class Stage:
    """A room with an agent in it, for scenes to be played in."""

    home: Installation
    books: Books
    thread: str = ""
    """Of the standing agent."""
    lead: str = ""
    """The thread of the agent that may launch others."""
    played: int = 0
    stranger: Operator | None = None
    repository: Path = Path()
    """Of the project web, whose room this is."""
    topics: list[str] = field(default_factory=list)
    """The messages that opened a topic of that project."""

    async def set_up(self) -> None:
        """Launch the standing agent."""
        await self.books.ask(f"!launch {STANDING}")
        self.thread = await self.home.thread_of(STANDING)
        await self.home.heard_words("Ready", thread=self.thread)

    async def set_up_lead(self) -> None:
        """Launch the agent that may launch others, which has used its tools once."""
        if self.home.process is None:
            await self.home.start()
        await self.books.ask(f"!launch {LEAD} --role orchestrator")
        self.lead = await self.home.thread_of(LEAD)
        await self.home.heard_words("Ready", thread=self.lead)
        await self.books.done(await self.books.message(self.lead, tool_calls.order("peers")))

    async def play(self, scene: Scene) -> None:
        """Play a scene once."""
        self.played += 1
        await scene(self)

    async def question(self, about: str) -> Event:
        """The permission request that has these words in it."""
        return await self.home.heard(
            lambda event: about in body(event) and "asks for permission" in body(event) and not _is_edit(event)
        )

    async def approved(self, message: Message, about: str) -> str:
        """Allow what a message makes the agent ask for, and wait for the message's end."""
        question = await self.question(about)
        await self.home.ana.react(self.home.room, question["event_id"], "✅")
        return await self.books.done(message)


# --- scenes --------------------------------------------------------------------------------------------------------


async def life(stage: Stage) -> None:
    """An agent that never was before comes, answers and goes."""
    books, home, name = stage.books, stage.home, f"guest{stage.played}"
    assert "starts in its thread" in await books.ask(f"!launch {name} --task later")
    thread = await home.thread_of(name)
    assert await books.done(await books.message(thread)) == FINISHED
    assert name in await books.ask("!ps")
    await books.ask(f"!stop {name}")
    await home.heard_words("Stopped", thread=thread)


async def talk(stage: Stage) -> None:
    """Words, an approval, edits in time and too late, and a message that is taken back while it waits."""
    books, home, thread = stage.books, stage.home, stage.thread
    proof = f"proof{stage.played}"
    asking = await books.message(thread, f"[[run: echo x >> {proof}]]")
    waiting = await books.message(thread)
    regretted = await books.message(thread)
    await home.marked(regretted.event_id, "📥")
    await home.ana.redact(home.room, regretted.event_id)
    await home.marked(regretted.event_id, WITHDRAWN)
    await home.ana.edit(home.room, waiting.event_id, f"{waiting.token} edited [[say: {waiting.answer}]]")
    # The agent host has the edit a moment later, or when the orchestrator is back.
    while f"{waiting.token} edited" not in await books.ask(f"!queue {STANDING}", thread=thread):
        pass
    assert await stage.approved(asking, proof) == FINISHED
    assert (home.paths.workspace(STANDING) / proof).read_text() == "x\n", "what was allowed once is done once"
    assert await books.done(waiting) == FINISHED
    await home.ana.edit(home.room, waiting.event_id, "something else")
    await home.heard(lambda event: "Edits are not read" in body(event) and _follows(event, home, waiting.event_id))


async def ruled(stage: Stage) -> None:
    """A rule is added by command, and the agent does what it allows."""
    books, home = stage.books, stage.home
    proof = f"ruled{stage.played}"
    assert "holds" in await books.ask(f"!approvals rule add allow 'touch {proof}'")
    # If the agent asks before its host has the rule, the host answers once it has.
    assert await books.done(await books.message(stage.thread, f"[[run: touch {proof}]]")) == FINISHED
    assert (home.paths.workspace(STANDING) / proof).exists()


async def queued_work(stage: Stage) -> None:
    """A task is done by its agent, and counted; another is for nobody, and is refused at its deadline."""
    books, home = stage.books, stage.home
    token = books.token()
    done = tool_calls.order("task_done", status="done", summary=f"summary {token}")
    await books.ask(f"!task add '{token} {done} [[say: so ended {token}]]' --agent {STANDING}")
    await books.ask(f"!task add 'nobody {token}' --role research --deadline 1s")
    await home.heard_words(f"so ended {token}", thread=stage.thread)
    await home.heard(lambda event: f"is done. summary {token}" in body(event) and "used" in body(event))
    refused = f"(nobody {token}) is refused"
    await home.heard(lambda event: refused in body(event) and thread_root(event) is not None)
    # Given once, though whoever gave it was killed; told once in the agent's thread and once in its own.
    assert sum(token in entry.text and entry.results == 0 for entry in home.models.ledger.entries) == 1
    said = await home.ana.messages(home.room, home.bot.user_id)
    assert sum(f"is done. summary {token}" in body(event) for event in said) <= 2
    # In its thread, and where that begins: there mostly in place of other words.
    stands = [thread_root(event) is not None for event in said if refused in body(event)]
    assert stands.count(True) == 1
    assert stands.count(False) <= 1


async def by_other_doors(stage: Stage) -> None:
    """A message by the shell, one by command, a wrong command, and one that a stranger gives."""
    books, home = stage.books, stage.home
    if stage.stranger is not None:
        await stage.stranger.say(home.room, "!stop coder0 --now")
    token = books.token()
    sent = asyncio.create_task(send_by_shell(home, STANDING, f"{token} [[say: heard {token}]]"))
    assert "No agent is called" in await books.ask("!stop nobody")
    await books.ask("!nonsense")
    await sent
    await home.heard_words(f"heard {token}")
    told = [m for m in await home.ana.messages(home.room, home.bot.user_id) if body(m) == f"heard {token}"]
    assert len(told) == 1
    assert sum(token in entry.text for entry in home.models.ledger.entries) == 1


async def killing(stage: Stage) -> None:
    """An agent is killed, which asks for a confirmation."""
    books, home, name = stage.books, stage.home, f"victim{stage.played}"
    await books.ask(f"!launch {name}")
    thread = await home.thread_of(name)
    await home.heard_words("Ready", thread=thread)
    command = await home.ana.say(home.room, f"!kill {name}")
    question = await home.heard(lambda event: "cannot be undone" in body(event) and _answers(event, command))
    await home.ana.react(home.room, question["event_id"], "✅")
    books.kills[command] = f"!kill {name}"
    await home.heard_words(f"{name} is killed")


async def gone(stage: Stage) -> None:
    """A runtime, and then its agent host, are killed from outside; each is reported, and the agent comes back."""
    books, home = stage.books, stage.home
    folder = home.paths.agent_folder(STANDING)
    for words, find in (("was ended by SIGKILL", _runtime_of), ("is gone", host_lock.holder)):
        before = await _count(stage, words)
        pid = find(folder)
        assert pid
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(LIMIT):
            while await _count(stage, words) == before:
                await asyncio.sleep(0.1)
        assert await books.done(await books.message(stage.thread)) == FINISHED
        assert await _count(stage, words) == before + 1
    # A launch that somebody asks for counts anew; falls are not to add up over many plays.
    await books.ask(f"!restart {STANDING}")
    assert await books.done(await books.message(stage.thread)) == FINISHED


def _runtime_of(folder: Path) -> int:
    """The process id of an agent's runtime, as its journal told it last."""
    events = [entry.event for entry in host_lifecycle.tail(folder, 200)]
    return next(event.pid for event in reversed(events) if isinstance(event, RuntimeStarted))


async def frozen(stage: Stage) -> None:
    """An agent is frozen, spoken to and resumed with a prompt: all that is said is read, in order, once."""
    books, home, thread, word = stage.books, stage.home, stage.thread, stage.books.token()
    assert "frozen" in await books.ask(f"!freeze {STANDING}")
    waiting = await books.message(thread)
    prompt = f"{word} [[say: heard {word}]]"
    command = await books.command(f"!resume {STANDING} --prompt '{prompt}'")
    assert "comes back" in await home.reply(command)
    assert await books.done(waiting) == FINISHED
    await home.marked(command, "✅")
    assert sum(word in entry.text for entry in home.models.ledger.entries) == 1


async def failed_start(stage: Stage) -> None:
    """An agent in the place of whose workspace something lies."""
    books, home, name = stage.books, stage.home, f"blocked{stage.played}"
    _block(stage, name)
    await books.ask(f"!launch {name}")
    thread = await home.thread_of(name)
    await home.heard_words("✖", thread=thread)


def _block(stage: Stage, name: str) -> None:
    workspace = stage.home.paths.workspace(name)
    workspace.parent.mkdir(parents=True, exist_ok=True)
    workspace.write_text("in the way")


async def neglected(stage: Stage) -> None:
    """Agents that should run and do not, all for one reason: the watchdog says so, once for all of them."""
    books, home, names = stage.books, stage.home, [f"idle{stage.played}{which}" for which in "abc"]
    for name in names:
        _block(stage, name)
        await books.ask(f"!launch {name}")
    known = re.compile(rf"\b{names[-1]}\b")
    told = await home.heard(lambda event: "agents** are down" in body(event) and known.search(body(event)) is not None)
    assert "!restart" in body(told)
    for name in names:
        await books.ask(f"!stop {name}")


async def watched(stage: Stage) -> None:
    """A message with an agent's state, kept up to date."""
    books, home = stage.books, stage.home
    shown = await home.heard(_reply_to(await books.command(f"!watch {STANDING}")))
    with contextlib.suppress(TimeoutError):
        # A watch does not outlive a restart; then nothing comes.
        async with asyncio.timeout(9):
            await home.heard(lambda event: _is_edit(event) and relation(event)["event_id"] == shown["event_id"])


# --- what agents do by their tools ---------------------------------------------------------------------------------


async def words_by_tool(stage: Stage) -> None:
    """An agent writes to another and reports to people, by its tools: once each, and it is told so."""
    books, home, word = stage.books, stage.home, stage.books.token()
    writing = tool_calls.order("send_message", to=STANDING, text=f"{word} [[say: heard {word}]]")
    message = await books.message(stage.lead, f"{writing} {tool_calls.order('report', text=f'report of {word}')}")
    assert await books.done(message) == FINISHED
    await _answered(stage, f"heard {word}")
    await home.heard_words(f"📣 report of {word}")
    told = tool_calls.told(home, LEAD, word)
    assert [each.tool for each in told] == ["send_message", "report"]
    tool_calls.check(told[0], tool_calls.read_by_model(home, word))
    tool_calls.check(told[1], await tool_calls.said(home, f"📣 report of {word}"))
    assert await tool_calls.said(home, "💬", word) == 1


async def launched_by_tool(stage: Stage) -> None:
    """An agent launches another with a task, by a command: once, and it is told so."""
    books, home, name, word = stage.books, stage.home, f"worker{stage.played}", stage.books.token()
    launching = tool_calls.order("launch", name=name, role="coder", runtime="sim", task=f"{word} [[say: heard {word}]]")
    assert await books.done(await books.message(stage.lead, launching)) == FINISHED
    (told,) = tool_calls.told(home, LEAD, word)
    with books.register() as register:
        launched = register.execute("SELECT count(*) FROM agents WHERE name = ?", (name,)).fetchone()[0]
    tool_calls.check(told, launched)
    if launched:
        await _answered(stage, f"heard {word}")
        assert tool_calls.read_by_model(home, word) == 1
        await books.ask(f"!stop {name}")


async def too_many_words_by_tool(stage: Stage) -> None:
    """Two agents write to one another more often than they may; an operator lets them go on."""
    books, home, first, second = stage.books, stage.home, stage.books.token(), stage.books.token()
    writing = [
        tool_calls.order("send_message", to=STANDING, text=f"{word} [[say: heard {word}]]") for word in (first, second)
    ]
    message = await books.message(stage.lead, " ".join(writing))
    question = await stage.question(second)
    await home.ana.react(home.room, question["event_id"], "✅")
    assert await books.done(message) == FINISHED
    for word in (first, second):
        await _answered(stage, f"heard {word}")
        (told,) = tool_calls.told(home, LEAD, word)
        tool_calls.check(told, tool_calls.read_by_model(home, word))
        assert await tool_calls.said(home, "💬", word) == 1


# --- doing and looking ---------------------------------------------------------------------------------------------


async def send_by_shell(home: Installation, agent: str, text: str) -> None:
    """`muster send`, again as long as Muster is not there."""
    async with asyncio.timeout(LIMIT):
        while True:
            status, printed = await home.shell("send", agent, text)
            if status == 0:
                return
            # 3 says that nobody heard it; anything else would be a fault.
            assert status == 3, printed
            await asyncio.sleep(0.1)


async def _answered(stage: Stage, words: str) -> None:
    """Wait until an agent has said just this; it is also quoted, where an agent was made to say it."""
    await stage.home.heard(lambda event: event["type"] == "m.room.message" and body(event) == words)


def _is_edit(event: Event) -> bool:
    return relation(event).get("rel_type") == "m.replace"


def _answers(event: Event, asked: str) -> bool:
    return not _is_edit(event) and relation(event).get("m.in_reply_to", {}).get("event_id") == asked


def _reply_to(asked: str) -> Callable[[Event], bool]:
    return lambda event: _answers(event, asked)


def _follows(event: Event, home: Installation, earlier: str) -> bool:
    """Whether an event came after another one."""
    ids = [each["event_id"] for each in home.ana.seen[home.room]]
    return ids.index(event["event_id"]) > ids.index(earlier)


async def _count(stage: Stage, words: str) -> int:
    """How many messages of the bot hold these words."""
    home = stage.home
    return sum(words in body(event) for event in await home.ana.messages(home.room, home.bot.user_id))
