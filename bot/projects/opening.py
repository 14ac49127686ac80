"""Opening a topic: from words in a chat room to an agent that reads them.

Two transactions do it. The first one handles the chat event: it adds the topic and its words, and opens the thread. The
second one launches the agent when there is room, and makes the words its messages. A crash before or after either one
changes nothing but the delay, because a topic's id comes from the event, and its state says which has been done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.launch import request_of
from bot.config.projects import ProjectBlock, profile_of
from bot.messaging.composer import MessagePlace
from bot.messaging.outbox_keys import OPENER
from bot.messaging.thread_lifecycle import title_of
from bot.pacing.session_admission import Opening, opening, settle, work_of
from bot.projects import capacity
from bot.projects import text as topic_text
from bot.projects.capacity import TopicLimits
from bot.projects.repositories import folder_of
from bot.projects.services import ProjectServices
from bot.tasks import deferred_turns
from bot.tasks.deferred_turns import TurnHold
from bot.text import markdown
from bot.text.errors import UserError
from budget.windows.interactive_turns import Begins
from connectors.contract.messages import Inbound, OpenThread, Priority, Retitle, Sent
from connectors.delivery import outbox
from core.crash_points import declare
from core.errors import RegisterConflict
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.chat import thread_owners, thread_titles, topics
from database.queries.chat.topics import Topic, TopicState, TopicWords
from fleet.errors import FleetError
from fleet.launch.launch_plan import LaunchPlan
from fleet.workspace import repository_discovery, repository_refs

BEGIN = declare("topics.begin")
WAKE = declare("topics.wake")

#: States of topics that have not ended.
ALIVE: Final[tuple[TopicState, ...]] = ("waiting", "open", "idle", "waking", "ending")


def limits_of(services: ProjectServices) -> TopicLimits:
    """Return how many topics may run, from muster.yaml."""
    return TopicLimits(projects=services.settings.projects, at_once=services.settings.topics.at_once)


async def names_in_use(services: ProjectServices, project: str) -> frozenset[str]:
    """Return the names that the agent of a project's next topic may not have.

    These are the names of the roster, and those that have a branch in the project's repository. A new installation
    counts its topics from 1 again, while the branches of an earlier one are still there.

    Raises:
        UserError: the roster or the repository cannot be read.
    """
    block = services.settings.projects.get(project)
    try:
        fleet = await asyncio.to_thread(services.planner.read_roster)
        branches = await asyncio.to_thread(_with_branches, block.repo) if block is not None else frozenset[str]()
    except FleetError as error:
        raise UserError(str(error), code=error.code) from error
    return branches.union(entry.name for entry in fleet.agents)


def _with_branches(repo: str) -> frozenset[str]:
    found = repository_discovery.find(Path(repo).expanduser())
    return frozenset() if found is None else repository_refs.agents_with_branches(found)


async def _next_name(tx: AsyncConnection, project: str, taken: Collection[str]) -> tuple[int, str]:
    """Return the number and the agent's name of a project's next topic."""
    number = await topics.last_number(tx, project) + 1
    while (name := f"{project}-{number}") in taken or await agents.get(tx, name) is not None:
        number += 1
    return number, name


async def add(
    tx: AsyncConnection,
    services: ProjectServices,
    inbound: Inbound,
    *,
    topic_id: str,
    project: str,
    taken: Collection[str],
    text: str,
    words: str,
    attachments: Sequence[Mapping[str, Any]],
    files: int,
) -> Topic:
    """Add a topic and open its thread, in the transaction that handles the event.

    A message in a thread that a person opened in the project's room makes that thread the topic's.

    Args:
        tx: the transaction.
        services: the services to use.
        inbound: the event.
        topic_id: the id of the topic, derived from the event.
        project: the project.
        taken: names that its agent may not have (`names_in_use`).
        text: what the person wrote, for the title.
        words: what the agent reads.
        attachments: pictures for the agent.
        files: how many files came with the message.

    Raises:
        RegisterConflict: another topic took the name at the same time; the transaction can be repeated.
    """
    if (known := await topics.get(tx, topic_id)) is not None:
        return known
    number, name = await _next_name(tx, project, taken)
    now = services.clock()
    redact = services.redact
    topic = Topic(
        id=topic_id,
        project=project,
        number=number,
        agent=name,
        title=topic_text.title(text, redact, files=files),
        connector=inbound.connector,
        room=inbound.parent or inbound.conversation,
        thread_key=f"{OPENER}{topic_id}",
        asked_by=inbound.identity,
        state="waiting",
        queued_at=now,
        active_at=now,
        created_at=now,
    )
    if not await topics.add(tx, topic):
        raise RegisterConflict(f"another topic is called {name} by now.")
    await _keep(tx, inbound, topic_id, f"{topic_id}-task", words, attachments)
    alive = await topics.in_states(tx, ALIVE)
    place = capacity.place_in_line(alive, limits_of(services), topic)
    await _open_thread(tx, services, inbound, topic, place)
    return topic


async def _keep(
    tx: AsyncConnection,
    inbound: Inbound,
    topic_id: str,
    message_id: str,
    words: str,
    attachments: Sequence[Mapping[str, Any]],
) -> None:
    kept = TopicWords(
        id=message_id,
        topic=topic_id,
        text=words,
        attachments=list(attachments),
        sender=inbound.identity,
        connector=inbound.connector,
        conversation=inbound.conversation,
        event_id=inbound.event_id,
    )
    await topics.add_words(tx, kept)


async def _open_thread(
    tx: AsyncConnection, services: ProjectServices, inbound: Inbound, topic: Topic, place: int | None
) -> None:
    channel = services.agents.journal_effects
    marked = channel.titles.has(topic.connector)
    name = f"{topic.agent} {topic.title}"
    waits = f"{topic_text.WAITS} {name}"
    title = waits if marked and place is not None else title_of(name, "starting", asks=False).title if marked else name
    words = channel.redaction(topic_text.opened(topic, place))
    opener = OpenThread(title=title, message=markdown.message(words, reply_to=inbound.event_id))
    room = MessagePlace(topic.connector, conversation=topic.room)
    await thread_owners.note(tx, topic.thread_key, "agent", topic.agent)
    await outbox.put(tx, room.outbound(topic.thread_key, opener, Priority.REPLY), services.clock())
    if inbound.parent is not None:
        # The thread is there already: a person opened it, such as a post in a forum.
        sent = Sent(event_id=inbound.event_id, conversation=inbound.conversation)
        await outbox.mark_sent(tx, {topic.thread_key: sent}, services.clock())
        thread = MessagePlace(topic.connector, conversation=inbound.conversation)
        await channel.speak(tx, f"topic/{topic.id}/opened", topic_text.opened(topic, place), thread)
        if marked:
            await thread_titles.rename(tx, topic.thread_key, name, archived=False)
            await channel.titles.call(tx, topic.connector, topic.thread_key, Retitle(title=title))
        return
    if marked:
        await thread_titles.rename(tx, topic.thread_key, title, archived=False)
    for key, at in channel.bridge.spread(topic.thread_key, room)[1:]:
        text = f"{topic_text.opened(topic, place).partition(chr(10))[0]}. Its thread is on **{topic.connector}**."
        await channel.speak_there(tx, key, text, at)


async def add_words(
    tx: AsyncConnection,
    services: ProjectServices,
    inbound: Inbound,
    topic: Topic,
    *,
    message_id: str,
    words: str,
    attachments: Sequence[Mapping[str, Any]],
) -> None:
    """Keep more words for a topic that has not begun, in the transaction that handles their event."""
    await _keep(tx, inbound, topic.id, message_id, words, attachments)
    await topics.change(tx, topic.id, only=["waiting"], active_at=services.clock())


# --- launching ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTopic:
    """A topic with the agent that would be launched for it."""

    topic: Topic
    plan: LaunchPlan
    opened: Opening


async def planned(services: ProjectServices, topic: Topic, project: ProjectBlock) -> PlannedTopic:
    """Return the launch of a topic's agent.

    Raises:
        FleetError: the agent cannot be started; the message says what to do.
    """
    folder = await asyncio.to_thread(folder_of, services.paths, project.repo)
    asked: dict[str, str | None] = {
        "role": project.role,
        "runtime": project.runtime,
        "model": project.model,
        "sandbox": profile_of(topic.project),
        "workspace": str(folder),
    }
    plan = await asyncio.to_thread(services.planner.plan, topic.agent, asked)
    opened = await opening(services, plan, work_of("a topic"), asked=asked)
    return PlannedTopic(topic=topic, plan=opened.plan, opened=opened)


async def launch(services: ProjectServices, planned: PlannedTopic) -> bool:
    """Launch the agent of a waiting topic, and make the words that wait its messages, in one transaction.

    Returns:
        Whether it was launched; False if the topic does not wait any more.

    Raises:
        UserError: there is no account with room for it.
    """
    topic = planned.topic
    request = request_of(planned.plan, by=topic.asked_by, connector=topic.connector, room=topic.room)
    request = request.in_thread(topic.title, topic.thread_key)
    hold = await deferred_turns.look(services, _preview(planned), topic.asked_by)

    async def act(tx: AsyncConnection) -> bool:
        if not await topics.change(tx, topic.id, only=["waiting"], state="open", detail=None):
            return False
        row, ours = await services.agents.desired_states.launch(tx, request, run_id=topic.id)
        if not ours:
            raise UserError(f"another agent is called {topic.agent} by now", code="agent.exists")
        await settle(services, tx, row, planned.opened, has_words=True)
        await _hand_over(tx, services, row, await topics.take_words(tx, topic.id), hold)
        return True

    done = await services.store.transact(BEGIN, act)
    services.agents.look_again(topic.agent)
    services.agents.bring_mail(topic.agent)
    services.dispatcher.wake()
    services.delivery.wake()
    return done


def _preview(planned: PlannedTopic) -> AgentRow:
    """Return the agent as its launch will register it, to look up what would hold its first turn."""
    topic, plan = planned.topic, planned.plan
    return AgentRow(
        name=plan.name,
        role=plan.role,
        runtime=plan.runtime,
        model=plan.model,
        sandbox=plan.sandbox,
        workspace=str(plan.workspace),
        wanted="running",
        at_once=False,
        keep_session=True,
        state="starting",
        detail=None,
        launch_id=topic.id,
        launched_by=topic.asked_by,
        connector=topic.connector,
        room=topic.room,
        thread_key=topic.thread_key,
        started_at=None,
        stopped_at=None,
        purpose=topic.title,
    )


async def _hand_over(
    tx: AsyncConnection,
    services: ProjectServices,
    row: AgentRow,
    words: Sequence[TopicWords],
    hold: TurnHold | Begins,
) -> None:
    """Make waiting words messages to the agent; words that limits or the pace hold back wait in the task queue."""
    for each in words:
        if isinstance(hold, TurnHold):
            task = await deferred_turns.add(
                tx,
                services,
                row,
                hold,
                each.text,
                cause=each.id,
                by=each.sender,
                attachments=each.attachments,
                connector=each.connector,
                conversation=each.conversation,
                event_id=each.event_id,
                answer_in=None,
            )
            await deferred_turns.offer(tx, services, row, task, deferred_turns.told(services, row, task, hold))
            continue
        if (ahead := await deferred_turns.note_ahead(tx, services, row, hold, each.sender)) is not None:
            await services.agents.journal_effects.note(tx, row, f"topic/{each.id}/ahead", ahead)
        await services.agents.send(
            tx,
            row,
            each.text,
            message_id=each.id,
            by=each.sender,
            attachments=each.attachments,
            connector=each.connector,
            conversation=each.conversation,
            event_id=each.event_id,
        )


async def bring_back(services: ProjectServices, topic: Topic) -> bool:
    """Bring back the frozen agent of a topic to which somebody wrote.

    Returns:
        Whether it comes back; False if the topic does not wait for that any more.

    Raises:
        FleetError: the agent cannot be started; the message says what to do.
        UserError: there is no such agent any more.
    """
    row = await services.agents.get(topic.agent)
    await asyncio.to_thread(services.planner.as_it_is, row)
    run_id = f"{topic.id}-wake-{topic.queued_at * 1000:.0f}"

    async def act(tx: AsyncConnection) -> bool:
        if not await topics.change(tx, topic.id, only=["waking"], state="open", detail=None):
            return False
        await services.agents.desired_states.resume(tx, row, run_id=run_id, by=topic.asked_by)
        return True

    done = await services.store.transact(WAKE, act)
    services.agents.look_again(topic.agent)
    services.agents.bring_mail(topic.agent)
    return done
