"""Short scripts of a day with the project of a stage: topics come and go, and a project gets a room of its own."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from fleet.supervision import host_lifecycle
from tests import waiting
from tests.bot.projects.fleet_with_project import git
from tests.operator_client import Operator, body, thread_root
from tests.system.installation import LIMIT
from tests.system.matrix_installation import replies_to
from tests.system.operator_record import FINISHED, Message
from tests.system.scenarios import STANDING, Stage

#: So begins what is said once a branch is merged. If that was done before a crash, nothing is left to merge after it.
MERGED = ("✅ `muster/", "☑️ Over")


@dataclass(frozen=True, slots=True)
class Opened:
    """A topic that somebody asked for."""

    agent: str
    thread: str


async def topics(stage: Stage) -> None:
    """Of two topics one waits for the other; it is spoken to then, and when it is frozen. Both end as is chosen."""
    books, home, gate = stage.books, stage.home, f"gate{stage.played}"
    working = await books.message(None, before=f"[[wait: {gate}]]")
    first = await _opened(stage, working.event_id)
    begun = await books.message(None)
    second = await _opened(stage, begun.event_id)
    soon = await books.message(second.thread)
    await home.heard(lambda event: replies_to(event) == soon.event_id and "reads this when it begins" in body(event))
    home.models.release(gate)
    assert await books.done(working) == FINISHED
    assert f"{first.agent} ends now" in await books.ask("!done --how discard", thread=first.thread)
    for message in (begun, soon):
        assert await books.done(message) == FINISHED
    await home.heard_words(f"{second.agent} is frozen", thread=second.thread)
    woken = await books.message(second.thread)
    assert await books.done(woken) == FINISHED

    _commit(stage, second)
    # The question is the answer to this.
    books.kills[await home.ana.say(home.room, "!done", thread=second.thread)] = "!done"
    question = await home.heard_words(f"How does {second.agent} end", thread=second.thread)
    await home.ana.react(home.room, question["event_id"], "🔀")
    await home.heard(lambda event: thread_root(event) == second.thread and body(event).startswith(MERGED))
    await home.heard_words("Discarded", thread=first.thread)
    assert (stage.repository / f"{second.agent}.html").exists()

    read = [_read(stage, message) for message in (begun, soon, woken)]
    assert read == sorted(read), "words reach an agent in their order"
    await _once(stage, first.thread, working.answer, "🗑️ Discarded")
    answers = (begun.answer, soon.answer, woken.answer)
    await _once(stage, second.thread, *answers, f"🔀 `muster/{second.agent}` is merged when", MERGED)
    await _each_once(stage, {first: "discard", second: "merge"})


async def topic_in_hand(stage: Stage) -> None:
    """A person freezes the agent of a topic and brings it back, and keeps its branch in the end."""
    books, home = stage.books, stage.home
    asked = await books.message(None)
    topic = await _opened(stage, asked.event_id)
    assert await books.done(asked) == FINISHED
    await books.ask(f"!freeze {topic.agent}")
    await waiting.until(lambda: _outcomes(stage)[topic.agent] == ("idle", None), limit=LIMIT)
    await books.ask(f"!resume {topic.agent}")
    again = await books.message(topic.thread)
    assert await books.done(again) == FINISHED
    _commit(stage, topic)
    assert "stays" in await books.ask("!topic close", thread=topic.thread)
    await home.heard_words("Over", thread=topic.thread)
    await _once(stage, topic.thread, asked.answer, again.answer, "📁 Over")
    await _each_once(stage, {topic: "keep"})


async def topic_that_cannot_begin(stage: Stage) -> None:
    """A topic whose repository is away says so, and is taken back."""
    books, home, token = stage.books, stage.home, stage.books.token()
    away = stage.repository.rename(stage.repository.with_name("away"))
    try:
        asked = await home.ana.say(home.room, f"{token} [[say: heard {token}]]")
        topic = await _opened(stage, asked)
        await home.heard_words(f"{topic.agent} has not begun", thread=topic.thread)
        assert "is taken back" in await books.ask("!topic close", thread=topic.thread)
        await home.heard_words("Closed", thread=topic.thread)
    finally:
        away.rename(stage.repository)
    await _once(stage, topic.thread, f"⚠️ {topic.agent} has not begun", "⏹ Closed: it had not begun")
    assert not any(token in entry.text for entry in home.models.ledger.entries)
    await _each_once(stage, {topic: None})


async def project_with_new_room(stage: Stage) -> None:
    """A project is added with a room of its own, in which words open a topic."""
    books, home, name, token = stage.books, stage.home, f"shop{stage.played}", stage.books.token()
    repo = f"--repo {stage.repository} --runtime sim --sandbox none"
    told = await books.ask(f"!project add {name} {repo} --room new")
    assert f"{name} is a project now" in told
    (room,) = re.findall(r"matrix:(![^`]+)", told)
    async with Operator(home.bot) as bot:
        named = [each for each in await bot.rooms() if await bot.state(each, "m.room.name") == {"name": name}]
        assert named == [room]
        assert await bot.membership(room, home.ana.user_id) == "invite"
    await home.ana.join(room)
    levels = await home.ana.state(room, "m.room.power_levels")
    assert levels is not None
    assert levels["users"][home.ana.user_id] == 100
    asked = await home.ana.say(room, f"{token} [[say: heard {token}]]")
    answer = await home.ana.wait_for(room, lambda event: body(event) == f"heard {token}")
    said = await home.ana.messages(room, home.bot.user_id)
    replies = [event for event in said if replies_to(event) == asked]
    assert [event["event_id"] for event in replies] == [thread_root(answer)], [body(event) for event in said]
    assert sum(body(event) == f"heard {token}" for event in said) == 1
    assert sum(token in entry.text for entry in home.models.ledger.entries) == 1
    assert "ends now" in await books.ask(f"!done {name}-1 --how discard")
    await waiting.until(lambda: _outcomes(stage)[f"{name}-1"] == ("ended", "discard"), limit=LIMIT)
    _nothing_left(stage, f"{name}-1")


# --- what stands ---------------------------------------------------------------------------------------------------


async def _opened(stage: Stage, asked: str) -> Opened:
    """The topic that a message opens, once its thread is there."""
    opener = await stage.home.heard(lambda event: replies_to(event) == asked and body(event).startswith("🧵"))
    stage.topics.append(asked)
    found = re.search(r"\*\*(\S+)\*\* ·", body(opener))
    assert found is not None
    return Opened(found[1], opener["event_id"])


def _commit(stage: Stage, topic: Opened) -> None:
    """Commit something in the clone of a topic, as its agent would."""
    clone = stage.home.paths.workspace(topic.agent)
    (clone / f"{topic.agent}.html").write_text("<p>new</p>\n")
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", "A page")


def _read(stage: Stage, message: Message) -> int:
    """The place of a message among all that models were asked."""
    entries = stage.home.models.ledger.entries
    return next(place for place, entry in enumerate(entries) if f"{message.token} " in entry.text)


async def _once(stage: Stage, thread: str, *beginnings: str | tuple[str, ...] | None) -> None:
    """Check that one message in a thread begins with each of these words, or with one of them."""
    room = await stage.home.ana.events(stage.home.room)
    texts = [text for event, text in stage.books.standing(room) if thread_root(event) == thread]
    for each in beginnings:
        assert sum(text.startswith(each or "") for text in texts) == 1, (each, texts)


async def _each_once(stage: Stage, ended: dict[Opened, str | None]) -> None:
    """Check that there is one thread, one agent and one branch for each topic that was asked for, and nothing else.

    Args:
        stage: the stage, with all messages that asked for a topic of its project.
        ended: the topics that have just been ended, and how; None: they had not begun.
    """
    home = stage.home
    for topic, outcome in ended.items():
        await waiting.until(lambda: _outcomes(stage)[topic.agent] == ("ended", outcome), limit=LIMIT)  # noqa: B023
        _nothing_left(stage, topic.agent)
        branches = git(stage.repository, "branch", "--list", f"muster/{topic.agent}").splitlines()
        assert len(branches) == (outcome in ("merge", "keep"))
    outcomes = _outcomes(stage)
    assert len(outcomes) == len(stage.topics)
    begun = {STANDING, *(agent for agent, (_, outcome) in outcomes.items() if outcome is not None)}
    assert set(home.agents()) == begun
    with stage.books.register() as register:
        assert {name for (name,) in register.execute("SELECT name FROM agents")} == begun
    room = await home.ana.messages(home.room, home.bot.user_id)
    opened = Counter(replies_to(event) for event in room if body(event).startswith("🧵"))
    assert opened == Counter(stage.topics)
    async with Operator(home.bot) as bot:
        assert await bot.rooms() == [home.room]


def _outcomes(stage: Stage) -> dict[str, tuple[str, str | None]]:
    """The state and the outcome of each topic that the register has, by its agent."""
    with stage.books.register() as register:
        rows = register.execute("SELECT agent, state, outcome FROM topics").fetchall()
    return {agent: (state, outcome) for agent, state, outcome in rows}


def _nothing_left(stage: Stage, agent: str) -> None:
    """Check that an agent does not run, and that its clone is gone, whole or in part."""
    assert not host_lifecycle.is_running(stage.home.paths.agent_folder(agent))
    places = [each.name for each in stage.home.paths.workspaces.iterdir()]
    assert [name for name in places if name == agent or name.startswith(f".{agent}.")] == []
