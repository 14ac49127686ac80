"""The end of a topic: its branch is merged, kept or discarded, its agent stops, and its thread is archived.

The decision is recorded first (`ending`). What follows is repeated from its start after a crash, and does nothing a
second time.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.review import merge_text, merging
from bot.commands.syntax import command_line
from bot.messaging.composer import MessagePlace
from bot.projects import text as topic_text
from bot.projects.services import ProjectServices
from bot.text import markdown
from bot.text.errors import UserError
from connectors.contract.messages import Retitle
from core.crash_points import declare
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.chat import topics
from database.queries.chat.topics import Topic, TopicState
from fleet.errors import FleetError
from fleet.roster.drift import ENDED
from fleet.supervision import host_lifecycle
from fleet.workspace import branch_merge
from fleet.workspace.clone import NotClean
from fleet.workspace.merge_gate import InvalidGate
from fleet.workspace.merge_trial import NotMerged

END = declare("topics.end")

_UNFINISHED: Final[tuple[TopicState, ...]] = ("waiting", "open", "idle", "waking")


class UncheckedClone(FleetError):
    """The clone of an agent cannot be looked at."""

    code = "workspace.unchecked"


async def decide(tx: AsyncConnection, services: ProjectServices, topic: Topic, outcome: str) -> bool:
    """Record how a topic ends, in the transaction of the decision. `go_on` does it after the commit.

    Returns:
        False if it ends already.
    """
    if not await topics.change(tx, topic.id, only=_UNFINISHED, state="ending", outcome=outcome, detail=None):
        return False
    row = await agents.get(tx, topic.agent)
    if row is not None and row.wanted == "running":
        await services.agents.desired_states.stop(tx, row, now=outcome == "discard")
    return True


async def go_on(services: ProjectServices, topic: Topic) -> None:
    """Do what is left to do for a topic that ends.

    Raises:
        FleetError: something is in the way; the message says what to do.
    """
    async with services.store.read() as tx:
        row = await agents.get(tx, topic.agent)
    if row is None:
        await _ended(services, topic, None, "")
        return
    services.agents.look_again(row.name)
    if await asyncio.to_thread(host_lifecycle.is_running, services.paths.agent_folder(row.name)):
        if topic.outcome != "discard":
            return  # its turn has not ended
        await services.agents.kill(row, discard=False)
    workspaces, named = services.planner.workspaces, Path(row.workspace)
    said = ""
    try:
        if topic.outcome == "discard":
            # Before the clone goes: its commits tell whether those of the branch are the agent's.
            with contextlib.suppress(FleetError):  # an agent may have broken its clone
                await asyncio.to_thread(workspaces.collect, row.name)
            aside = await asyncio.to_thread(branch_merge.set_aside, named, row.name)
            await asyncio.to_thread(workspaces.discard, row.name, named)
            deleted = await asyncio.to_thread(branch_merge.discard, named, row.name, aside.commit)
            said = f"🗑️ Discarded, with its {'branch and its ' if deleted else ''}clone."
            said = f"{said} {merge_text.is_kept(aside, row.workspace)}".rstrip()
        else:
            await asyncio.to_thread(workspaces.collect, row.name)
            await _check_saved(services, row, named)
            said = await _kept(services, topic, row)
            await asyncio.to_thread(workspaces.remove, row.name, named)
    except (NotClean, NotMerged, InvalidGate, UncheckedClone) as problem:
        await _goes_on(services, topic, row, problem)
        return
    await _ended(services, topic, row, said)


async def _check_saved(services: ProjectServices, row: AgentRow, named: Path) -> None:
    """Check that everything in the clone of an agent is committed, before anything is merged.

    Raises:
        NotClean: it is not; the message says what to do.
        UncheckedClone: it cannot be looked at.
    """
    try:
        unsaved = await asyncio.to_thread(services.planner.workspaces.unsaved, row.name, named)
    except FleetError as error:
        raise UncheckedClone(str(error)) from error
    if unsaved is not None:
        discard = command_line(f"done {row.name} --how discard")
        raise NotClean(f"its clone has {unsaved}. Ask it to commit that, or give everything up with {discard}.")


async def _kept(services: ProjectServices, topic: Topic, row: AgentRow) -> str:
    branch = markdown.code(f"muster/{row.name}")
    if topic.outcome != "merge":
        return f"📁 Over. Its commits are on the branch {branch}."
    merged = await merging.merge(await merging.request_of(services, row, title=topic.title))
    if merged is None:
        return f"☑️ Over. {branch} has nothing that is not merged."
    tested = f" {merge_text.tested(merged.test, None)}" if merged.test is not None else ""
    return f"✅ {branch} is merged into {markdown.code(merged.into)}: {merged.words()}.{tested}"


async def _goes_on(services: ProjectServices, topic: Topic, row: AgentRow, problem: FleetError) -> None:
    """Take the decision back: the topic goes on, and says why."""
    channel = services.agents.journal_effects
    async with services.store.write(END) as tx:
        if not await topics.change(tx, topic.id, only=["ending"], state="idle", outcome=None, detail=None):
            return
        await agents.change(tx, row.name, wanted="frozen", state="frozen")
        key = f"topic/{topic.id}/not-ended/{services.clock():.0f}"
        why = merge_text.refusal(problem, services.redact)
        await channel.note(tx, row, key, topic_text.goes_on(topic, why))
    services.agents.look_again(row.name)
    services.delivery.wake()


async def close(services: ProjectServices, topic: Topic, why: str) -> None:
    """End a topic that has not begun."""
    async with services.store.write(END) as tx:
        await take_back(tx, services, topic, why)
    services.delivery.wake()


async def take_back(tx: AsyncConnection, services: ProjectServices, topic: Topic, why: str) -> bool:
    """End a topic that has not begun, in the transaction of the decision. Return False if it has begun."""
    return await _record(tx, services, topic, None, f"⏹ Closed: {why}.", only="waiting")


async def _ended(services: ProjectServices, topic: Topic, row: AgentRow | None, said: str) -> None:
    async with services.store.write(END) as tx:
        await _record(tx, services, topic, row, said, only="ending")
    services.delivery.wake()


async def _record(
    tx: AsyncConnection, services: ProjectServices, topic: Topic, row: AgentRow | None, said: str, *, only: TopicState
) -> bool:
    """Record the end, say it in the thread and archive the thread, if the topic is in the state `only`."""
    channel = services.agents.journal_effects
    values = {"state": "ended", "ended_at": services.clock(), "outcome": topic.outcome}
    if not await topics.change(tx, topic.id, only=[only], **values):
        return False
    await topics.take_words(tx, topic.id)
    called = topic_text.ended_title(topic, topic.outcome or "closed")
    place = MessagePlace(topic.connector, thread_of=topic.thread_key)
    if said:
        await channel.speak(tx, f"topic/{topic.id}/over", said, place)
    if row is not None:
        ended = {} if row.state in ENDED else {"state": "stopped"}
        await agents.change(tx, row.name, wanted="stopped", keep_session=False, purpose=called, **ended)
        await channel.titles.show(tx, row.name, spoken=True)
    elif channel.titles.has(topic.connector):
        title = Retitle(title=f"⏹ {topic.agent} {called}", archived=True)
        await channel.titles.call(tx, topic.connector, topic.thread_key, title, spoken=True)
    return True


async def find(services: ProjectServices, word: str) -> Topic:
    """Return the topic whose agent has this name.

    Raises:
        UserError: there is none.
    """
    async with services.store.read() as tx:
        found = await topics.of_agent(tx, word)
        known = [] if found is not None else [each.agent for each in await topics.in_states(tx, _UNFINISHED)]
    if found is None:
        there = f"There are {', '.join(known[:10])}." if known else "There are none now."
        raise UserError(f"No topic is called {markdown.one_line(word, 40)!r}. {there}", code="topic.unknown")
    return found
