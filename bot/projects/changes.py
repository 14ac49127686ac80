"""Implementation of the commands that change projects and end topics."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals.questions import QuestionChoice
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.config import loader
from bot.config.projects import PROJECT_NAME, is_url, read_budget, read_room, read_url
from bot.projects import edit, ending, repositories
from bot.projects.opening import ALIVE
from bot.projects.services import ProjectServices
from bot.text import markdown
from bot.text.errors import UsageError, UserError
from connectors.delivery import outbox
from core.validation_errors import suggestion
from database.queries.agents import agents
from database.queries.chat import questions, topics
from database.queries.chat.questions import Question
from database.queries.chat.topics import OVER, Topic
from fleet.errors import FleetError

#: The kind of the question how a topic ends.
QUESTION: Final = "topic"
_CHOICES: Final = (
    QuestionChoice("🔀", "merge", "merge the branch"),
    QuestionChoice("📁", "keep", "keep the branch"),
    QuestionChoice("🗑️", "discard", "discard the work"),
)


# --- projects ----------------------------------------------------------------------------------------------------


async def add_project(
    ctx: Context[ProjectServices],
    name: str,
    *,
    repo: str,
    room: str | None,
    budget: str | None,
    entry: Mapping[str, str | None],
) -> Reply:
    """Write a project into muster.yaml, and apply it."""
    services = ctx.services
    if not PROJECT_NAME.fullmatch(name):
        raise UsageError(f"NAME: expected lower-case letters, digits and dashes, at most 24, not {name[:40]!r}.")
    options: dict[str, object] = {key: value for key, value in entry.items() if value is not None}
    if budget is not None:
        options["budget"] = _budget(budget)
    # Nothing is cloned and no room is made for a project that muster.yaml cannot have.
    draft = {"repo": f"/{name}", **options}
    await ctx.once("check", lambda: asyncio.to_thread(edit.check_project, services.paths, name, draft))
    written: dict[str, object] = {"repo": await ctx.once("repo", lambda: _repository(services, name, repo))}
    place = await _room(ctx, name, room)
    if place is not None:
        written["room"] = place
    written |= options
    await ctx.once("write", lambda: asyncio.to_thread(edit.add_project, services.paths, name, written))
    reloaded = await services.reload()
    if reloaded.problem is not None:
        raise UserError(f"{name} is in muster.yaml, but was not applied: {reloaded.problem}", code="config.refused")
    mention = markdown.code(f"@{name} WORDS")
    where = f"Words in its room open a topic, and {mention} in others" if place else f"{mention} opens a topic"
    remove = command_line(f"project remove {name}")
    text = f"{name} is a project now, in {markdown.code(str(written['repo']))}. {where}. {remove} removes it."
    if place is not None:
        text += f"\n\nIts room: {markdown.code(place)}."
    notes = "".join(f"\n\n⚠️ {note}" for note in reloaded.notes)
    return Reply(text + notes, {"name": name, **written})


async def _repository(services: ProjectServices, name: str, repo: str) -> str:
    """Return the folder of the repository, which is cloned from a URL first."""
    if not is_url(repo):
        await asyncio.to_thread(_usable, services, repo)
        return repo
    try:
        url = read_url(repo)
    except ValueError as error:
        raise UsageError(f"--repo: {error}") from None
    folder = await asyncio.to_thread(repositories.copy, url, name)
    await asyncio.to_thread(_usable, services, str(folder))
    return str(folder)


def _usable(services: ProjectServices, repo: str) -> None:
    if not repo.startswith(("/", "~/")):
        raise UsageError(f"--repo: expected an absolute path, one that begins with ~/, or a URL, not {repo[:80]!r}.")
    try:
        repositories.folder_of(services.paths, repo)
    except FleetError as error:
        raise UserError(str(error), code=error.code) from error


async def _room(ctx: Context[ProjectServices], name: str, room: str | None) -> str | None:
    """Return the project's own room as muster.yaml has it."""
    services, origin = ctx.services, ctx.origin
    if room is None:
        return None
    if room == "new":
        where = None if origin is None else origin.connector
        digest = hashlib.blake2s(ctx.run_id.encode(), digest_size=4).hexdigest()

        async def made() -> str:
            return await services.make_room(name, key=f"{name}-{digest}", connector=where)

        return await ctx.once("room", made)
    if room == "here":
        if origin is None:
            raise UserError("This command did not come from a chat room; name the room.", code="room.missing")
        room = f"{origin.connector}:{origin.parent or origin.conversation}"
    try:
        read_room(room)
    except ValueError as error:
        raise UsageError(f"--room: {error}") from None
    reason = loader.unusable_room(services.settings, room, listed=False)
    if reason is not None:
        raise UserError(f"{markdown.one_line(room)} cannot be the room of {name}: {reason}", code="room.unusable")
    # Again after a crash: what is in muster.yaml only later is not heard by itself.
    await services.hear_room(room)
    return room


def _budget(text: str) -> dict[str, object]:
    try:
        return read_budget(text)
    except (ValueError, ValidationError):
        raise UsageError(f"--budget: expected 2M, 2M/day or 20usd/month, not {text[:40]!r}.") from None


async def check_removal(services: ProjectServices, name: str) -> None:
    """Check that a project can be removed.

    Raises:
        UserError: there is none, or it has topics.
    """
    known = services.settings.projects
    if name not in known:
        there = f"There are {', '.join(known)}." if known else "There are none."
        raise UserError(
            f"No project is called {name[:40]!r}.{suggestion(name, list(known))} {there}", code="project.unknown"
        )
    async with services.store.read() as tx:
        alive = await topics.in_states(tx, ALIVE, project=name)
    if alive:
        first = command_line(f"done {alive[0].agent}")
        listed = markdown.some([each.agent for each in alive])
        raise UserError(f"{name} has topics: {listed}. End them first, with {first}.", code="project.has_topics")


async def remove_project(ctx: Context[ProjectServices], name: str) -> Reply:
    """Remove a project from muster.yaml, and apply that."""
    services = ctx.services

    async def checked() -> bool:
        await check_removal(services, name)
        return True

    # Again: somebody may have confirmed unasked, or have asked for a topic since.
    await ctx.once("checked", checked)
    removed = await ctx.once("write", lambda: asyncio.to_thread(edit.remove_project, services.paths, name))
    reloaded = await services.reload()
    if reloaded.problem is not None:
        raise UserError(f"{name} was removed, but that was not applied: {reloaded.problem}", code="config.refused")
    text = f"{name} is no project any more. Its repository, branches and room stay."
    return Reply(text if removed else f"{name} was no project.", {"name": name, "removed": removed})


# --- topics ------------------------------------------------------------------------------------------------------


async def end_topic(ctx: Context[ProjectServices], name: str | None, *, how: str | None) -> Reply:
    """Ask how a topic ends, or end it."""
    services = ctx.services
    topic = await _meant(ctx, name)
    if how is not None:
        return await _end(ctx, topic, how)

    async def act(tx: AsyncConnection) -> tuple[str, bool] | None:
        if await _taken_back(tx, services, topic):
            return None
        row = await agents.get(tx, topic.agent)
        asked = [each for each in await questions.pending(tx, agent=topic.agent) if each.kind == QUESTION]
        if asked or row is None:
            return asked[0].id if asked else "", False
        branch = markdown.code(f"muster/{topic.agent}")
        text = f"How does {topic.agent} end ({topic.title})? Its work is on the branch {branch}."
        cause = f"{topic.id}/{ctx.run_id}"
        question = await services.questions.ask(tx, row, kind=QUESTION, cause=cause, text=text, choices=_CHOICES)
        return question.id, True

    asked = await ctx.commit("ask", act)
    services.delivery.wake()
    if asked is None:
        return _is_taken_back(ctx, topic)
    question, is_new = asked
    here = await _of_thread(ctx)
    # In its own thread, the question is the answer.
    is_told = is_new and here is not None and here.id == topic.id
    told = "" if is_told else f"{topic.agent} ends as you choose in its thread."
    return Reply(told, {"topic": topic.agent, "question": question})


async def close_topic(ctx: Context[ProjectServices], name: str | None) -> Reply:
    """End a topic and keep its branch."""
    return await _end(ctx, await _meant(ctx, name), "keep")


async def _taken_back(tx: AsyncConnection, services: ProjectServices, topic: Topic) -> bool:
    """End a topic that has not begun. Return False if it has begun.

    This is decided in the transaction that records the step: the topic may begin meanwhile, and when a run is resumed,
    the topic that it ended is over.

    Raises:
        UserError: the topic is over.
    """
    current = await topics.get(tx, topic.id) or topic
    if current.state in OVER or current.state == "ending":
        how = "is ending" if current.state == "ending" else "is over"
        raise UserError(f"{topic.agent} {how} already. Nothing was changed.", code="topic.over")
    return await ending.take_back(tx, services, current, "it had not begun")


def _is_taken_back(ctx: Context[ProjectServices], topic: Topic) -> Reply:
    ctx.services.topics.wake()
    ctx.services.delivery.wake()
    return Reply(f"{topic.agent} is taken back.", {"topic": topic.agent, "state": "ended"})


async def _end(ctx: Context[ProjectServices], topic: Topic, outcome: str) -> Reply:
    async def act(tx: AsyncConnection) -> bool:
        return not await _taken_back(tx, ctx.services, topic) and await ending.decide(tx, ctx.services, topic, outcome)

    if not await ctx.commit("end", act):
        return _is_taken_back(ctx, topic)
    ctx.services.agents.look_again(topic.agent)
    ctx.services.topics.wake()
    ctx.services.delivery.wake()
    return Reply(_ends(topic, outcome), {"topic": topic.agent, "state": "ending", "outcome": outcome})


def _ends(topic: Topic, outcome: str) -> str:
    branch = markdown.code(f"muster/{topic.agent}")
    match outcome:
        case "merge":
            return f"{branch} is merged when the turn of {topic.agent} has ended."
        case "keep":
            return f"{topic.agent} ends when its turn has ended; {branch} stays."
        case _:
            return f"{topic.agent} ends now, and its work is discarded."


async def _meant(ctx: Context[ProjectServices], name: str | None) -> Topic:
    """Return the topic that a command means: the one that it names, or the one of its thread.

    Raises:
        UserError: there is none.
    """
    if name is not None:
        return await ending.find(ctx.services, name)
    if (found := await _of_thread(ctx)) is not None:
        return found
    raise UserError("This is no topic's thread. Name the topic, such as web-3.", code="topic.missing")


async def _of_thread(ctx: Context[ProjectServices]) -> Topic | None:
    """Return the topic in whose thread a command was written."""
    if ctx.origin is None:
        return None
    async with ctx.services.store.read() as tx:
        opener = await outbox.by_conversation(tx, ctx.origin.connector, ctx.origin.conversation)
        return None if opener is None else await topics.of_thread(tx, opener.key)


def listen(services: ProjectServices) -> None:
    """Act on the answers to the question how a topic ends."""

    async def taken(tx: AsyncConnection, question: Question, word: str, *, by: str) -> str:
        del by
        topic = await topics.of_agent(tx, question.agent)
        if topic is None or not await ending.decide(tx, services, topic, word):
            raise UserError(f"{question.agent} is over already. Nothing was changed.", code="topic.over")
        return _ends(topic, word)

    async def after(question: Question, word: str) -> None:
        del word
        services.agents.look_again(question.agent)
        services.topics.wake()

    services.questions.on(QUESTION, taken, after)
