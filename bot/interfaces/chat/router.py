"""The routing of chat events: commands to the table, talk to agents, reactions to what they answer.

`handle` processes every event of the inbox, in order per conversation. It finishes the inbox row in the transaction of
the event's last effect. After a crash before that, the event is processed again. All effects have keys derived from the
event, so they happen once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents import not_started
from bot.auth.permission import NONE, OPERATOR, Permission
from bot.auth.permissions import Authority
from bot.commands.argument_types import TASK
from bot.commands.context import Origin
from bot.commands.executor import Executor, RunOutcome, RunRequest
from bot.commands.syntax import command_line, from_shell
from bot.interfaces.chat import command_input
from bot.interfaces.chat.confirmations import Confirmations
from bot.interfaces.chat.duplicate_events import DuplicateEvents
from bot.interfaces.chat.reactions import Reactions
from bot.interfaces.chat.thread_rearchive import ThreadRearchive
from bot.interfaces.chat.topic_input import ClosedTopic, Recipient, TopicInput
from bot.interfaces.chat.unknown_senders import UnknownSenders
from bot.messaging.attachments import Pictures
from bot.messaging.composer import Composer
from bot.messaging.mirror_inbound import MirrorInbound
from bot.messaging.outbox_keys import answer_key
from bot.messaging.own_messages import OwnMessages
from bot.messaging.replies import REMARK, Replies, confirmation_key, derived_id
from bot.messaging.thread_owners import addressee, task_of
from bot.projects.placement import OpenTopic
from bot.projects.services import ProjectServices
from bot.tasks import deferred_turns
from bot.tasks.deferred_turns import TurnHold
from bot.text import markdown
from bot.text.errors import UserError
from budget.dispatch.next_task import TURN
from connectors.contract.messages import Edit, Inbound, Reaction, Redaction, Remark, Text
from connectors.delivery import inbox
from connectors.delivery.inbox import Arrival
from core.crash_points import declare
from database.queries import tasks
from database.queries.agents import agent_messages
from database.queries.agents.agent_messages import AgentMessage
from database.queries.agents.agents import AgentRow
from database.queries.chat import topics
from database.queries.chat.topics import Topic
from fleet.roster.drift import ENDED
from fleet.supervision.restart_policy import RestartRecord

log = structlog.get_logger(__name__)

TALK = declare("chat.talk")
WITHDRAW = declare("chat.withdraw")

#: Characters that a message to an agent may have; longer text belongs in a file in its workspace.
LONGEST_MESSAGE = 100_000


@dataclass(slots=True)
class ChatRouter:
    services: ProjectServices
    executor: Executor
    speaker: Composer
    strangers: UnknownSenders
    pictures: Pictures
    own_messages: OwnMessages
    overlap: DuplicateEvents = field(default_factory=DuplicateEvents)
    """The connectors that may receive the same events."""
    replies: Replies = field(init=False)
    mirror: MirrorInbound = field(init=False)
    confirmations: Confirmations = field(init=False)
    reactions: Reactions = field(init=False)
    woken: ThreadRearchive = field(init=False)
    topics: TopicInput = field(init=False)

    def __post_init__(self) -> None:
        self.replies = Replies(self.services, self.speaker)
        self.mirror = MirrorInbound(self.services, self.speaker)
        self.confirmations = Confirmations(self.services, self.executor, self.replies)
        self.reactions = Reactions(self.services, self.replies, self.confirmations, self.own_messages)
        self.woken = ThreadRearchive(self.services)
        self.topics = TopicInput(self.services, self.replies, self.own_messages)

    async def handle(self, arrival: Arrival) -> None:
        """Process one inbound event."""
        await self.woken.heard(arrival.inbound)
        await self._deal(arrival)
        await self.woken.dealt_with(arrival.inbound)

    async def _deal(self, arrival: Arrival) -> None:
        inbound = arrival.inbound
        if isinstance(inbound.body, Remark):
            await self.replies.answer(arrival, from_shell(inbound.body.text, self.services.table))
            return
        if inbound.connector in self.overlap.rooms:
            async with self.services.store.read() as tx:
                why_not = await self.overlap.why_not(tx, arrival)
            if why_not is not None:
                await self.replies.answer(arrival, None, detail=why_not)
                return
        authority = await self.services.operators.authority(inbound.identity, inbound.groups)
        if authority.permission is NONE:
            await self.strangers.turn_away(arrival)
            return
        await self.mirror.carry(inbound)
        match inbound.body:
            case Text():
                await self._text(arrival, inbound.body, authority)
            case Reaction():
                await self.reactions.take(arrival, inbound.body, authority)
            case Redaction(target=target):
                await self._redaction(arrival, target, authority.permission)
            case Edit() as edit:
                await self._edit(arrival, edit, authority.permission)

    async def given_up(self, tx: AsyncConnection, arrival: Arrival, reason: str) -> None:
        """Inform the author of an event that it could not be processed, in the transaction that gives the event up."""
        log.error(
            "chat.given_up", connector=arrival.inbound.connector, event_id=arrival.inbound.event_id, reason=reason
        )
        text = (
            "⚠️ Muster could not process this because of an internal error. The log has the details; write it again "
            "to retry."
        )
        await self.replies.say(tx, arrival.inbound, derived_id("x", arrival.inbound), text)
        await self.replies.progress(arrival.inbound).end(tx, "failed")

    # --- text ---------------------------------------------------------------------------------------------------

    async def _text(self, arrival: Arrival, body: Text, authority: Authority) -> None:
        inbound = arrival.inbound
        said = command_input.said(body, prefix=self.services.command_prefix)
        if isinstance(said, command_input.Talk):
            await self._talk(arrival, body, said.text, authority)
            return
        origin = Origin(
            connector=inbound.connector,
            conversation=inbound.conversation,
            parent=inbound.parent,
            event_id=inbound.event_id,
        )
        run_id = derived_id("c", inbound)

        async def finish(tx: AsyncConnection, outcome: RunOutcome) -> None:
            await self.replies.finish(tx, arrival, outcome)
            if body.attachments:
                await self.replies.say(tx, inbound, f"{run_id}/files", _FILES_UNREAD)

        confirmation = command_input.confirmation(said.line)
        if confirmation is not None:
            await self.confirmations.by_command(arrival, confirmation)
            return
        ready = command_input.prepare(self.services.table, said.line, authority.permission)
        if ready.reason == "unknown" and authority.permission >= OPERATOR:
            told = await not_started.addressed(self.services, ready.name)
            ready = ready if told is None else replace(ready, refusal=told)
        request = RunRequest(
            id=run_id,
            name=ready.name,
            arguments=await self._with_place(ready, inbound),
            identity=inbound.identity,
            permission=authority.permission,
            through=authority.through,
            door="chat",
            origin=origin,
        )
        if ready.refusal is not None:
            await self.executor.refuse(request, ready.refusal, reason=ready.reason or "usage", finish=finish)
            self.services.delivery.wake()
            return
        async with self.replies.progress(inbound).shown(answer_key(run_id), confirmation_key(run_id)) as progress:
            await self.executor.run(request, finish=finish, progress=progress)
            self.services.delivery.wake()

    async def _with_place(self, ready: command_input.Ready, inbound: Inbound) -> Mapping[str, Any]:
        """Return the arguments of a command, with the thread's task if the command needs one and none is given.

        The task is recorded with the command, so that readers of the record do not need the thread.
        """
        command = self.services.table.get(ready.name)
        if command is None or ready.refusal is not None or inbound.parent is None or "id" in ready.arguments:
            return ready.arguments
        if not any(each.name == "id" and each.type is TASK for each in command.parameters):
            return ready.arguments
        async with self.services.store.read() as tx:
            here = await task_of(tx, inbound.connector, inbound.conversation)
        return ready.arguments if here is None else {"id": here, **ready.arguments}

    async def _talk(self, arrival: Arrival, body: Text, text: str, authority: Authority) -> None:
        inbound = arrival.inbound
        if not text.strip() and not body.attachments:
            await self.replies.answer(arrival, None, detail="empty")
            return
        if authority.permission < OPERATOR:
            await self.replies.answer(
                arrival, f"You may look ({command_line('ps')}), but only operators talk to agents."
            )
            return
        if len(text) > LONGEST_MESSAGE:
            await self.replies.answer(arrival, _too_long(text))
            return
        try:
            place = await self.topics.place(inbound, text)
            if isinstance(place, ClosedTopic):
                await self.replies.answer(arrival, place.why)
                return
            if isinstance(place, OpenTopic):
                text = place.text
            begins = isinstance(place, OpenTopic) or (isinstance(place, Topic) and place.state == "waiting")
            if not begins:
                row, answer_in = await self._reader(inbound, place)
        except UserError as error:
            why = await not_started.orchestrator(self.services) if error.code == "agent.no_orchestrator" else None
            await self.replies.answer(arrival, str(error) if why is None else f"Your message was not delivered. {why}")
            return
        attachments = await self.pictures.fetch(inbound, body.attachments)
        text = "\n\n".join([*([text] if text.strip() else []), *attachments.words])
        if not text and not attachments.kept:
            await self.replies.answer(arrival, "\n".join(attachments.refused))
            return
        if len(text) > LONGEST_MESSAGE:
            await self.replies.answer(arrival, _too_long(text))
            return
        if isinstance(place, OpenTopic):
            await self.topics.open(arrival, place, text, attachments, files=len(body.attachments))
            return
        if isinstance(place, Topic) and place.state == "waiting":
            await self.topics.add(arrival, place, text, attachments)
            return
        found = await deferred_turns.look(self.services, row, inbound.identity)
        hold = found if isinstance(found, TurnHold) else None
        key = derived_id("m", inbound)
        await self.services.runaway.spoken_to(row.name, inbound.identity, authority.through)
        async with self.services.store.write(TALK) as tx:
            source: dict[str, Any] = {
                "connector": inbound.connector,
                "conversation": inbound.conversation,
                "event_id": inbound.event_id,
                "answer_in": answer_in,
            }
            kept = attachments.kept
            if hold is None:
                note = await deferred_turns.note_ahead(tx, self.services, row, found, inbound.identity)
                await self.services.agents.send(
                    tx, row, text, message_id=key, by=inbound.identity, attachments=kept, **source
                )
                if note is not None:
                    await self.replies.say(tx, inbound, f"{key}/ahead", note)
            else:
                task = await deferred_turns.add(
                    tx, self.services, row, hold, text, cause=key, by=inbound.identity, attachments=kept, **source
                )
                told = deferred_turns.told(self.services, row, task, hold)
                if not await deferred_turns.offer(tx, self.services, row, task, told):
                    await self.replies.say(tx, inbound, f"{key}/held", told)
            if attachments.refused:
                await self.replies.say(tx, inbound, f"{key}/note", "\n".join(attachments.refused))
            comes_back = isinstance(place, Topic) and await self.services.topics.woken(tx, place)
            if not comes_back and (absent := _absent(row)) is not None:
                await self.replies.say(tx, inbound, _absence(row, inbound.conversation), absent)
            await inbox.finish(tx, arrival.seq, self.services.clock())
        self.services.agents.bring_mail(row.name)
        if comes_back:
            self.services.topics.wake()
        if hold is not None:
            self.services.dispatcher.wake()
        self.services.delivery.wake()

    async def _reader(self, inbound: Inbound, place: Recipient) -> tuple[AgentRow, str | None]:
        """Return the agent that reads a message, and the conversation for its answer (None: the agent's own thread).

        Raises:
            UserError: there is no such agent.
        """
        if isinstance(place, AgentRow):
            return place, inbound.conversation
        return await addressee(inbound, self.services.store, self.own_messages)

    # --- deletions and edits ------------------------------------------------------------------------------------

    async def _redaction(self, arrival: Arrival, target: str, permission: Permission) -> None:
        """Withdraw a deleted message that is still queued, because the person does not want it read."""
        inbound = arrival.inbound
        async with self.services.store.write(WITHDRAW) as tx:
            messages = [
                message
                for message in await agent_messages.by_event(tx, inbound.connector, target)
                # Some chat systems let viewers delete the messages of others.
                if permission >= OPERATOR or message.sender == inbound.identity
            ]
            for message in messages:
                if await self.services.agents.withdraw(tx, message):
                    # A message that the pace deferred, and that is just being delivered.
                    held = await tasks.by_message(tx, message.id)
                    if held is not None:
                        await self.services.task_steps.cancel(tx, held, by=inbound.identity)
            if permission >= OPERATOR:
                await topics.withdraw_words(tx, inbound.connector, target)
            for task in await tasks.by_event(tx, inbound.connector, target):
                if permission >= OPERATOR or task.operator == inbound.identity:
                    await self.services.task_steps.cancel(tx, task, by=inbound.identity)
            await inbox.finish(tx, arrival.seq, self.services.clock())
        for name in {message.agent for message in messages}:
            self.services.agents.bring_mail(name)

    async def _edit(self, arrival: Arrival, edit: Edit, permission: Permission) -> None:
        """Take up the edit of a message that waits, or tell its author that it is not read."""
        inbound, target = arrival.inbound, edit.target
        async with self.services.store.read() as tx:
            messages = await agent_messages.by_event(tx, inbound.connector, target)
            waiting = [] if messages else await tasks.by_event(tx, inbound.connector, target)
        read_by = [(each.id, each.agent) for each in messages] + [(each.id, each.agent or "") for each in waiting]
        if not read_by:
            await self.replies.answer(arrival, None, detail="an edit")
            return
        text = self._edited(edit)
        mine = [each for each in messages if each.sender == inbound.identity and can_be_edited(each, text)]
        may = permission >= OPERATOR and mine and mine == messages
        if may and all([await self.services.agents.edit(each, text) for each in mine]):
            await self.replies.answer(arrival, None, detail="an edit, taken up")
            return
        task = waiting[0] if waiting and waiting[0].kind != TURN else None
        read = f"{markdown.one_line(read_by[0][1])} has the message as it was first written."
        if task is not None:
            read = f"Task {markdown.code(task.id)} stays as it was first written."
        async with self.services.store.write(REMARK) as tx:
            await self.replies.say(
                tx,
                inbound,
                f"edit/{read_by[0][0]}",
                f"Edits are not read any more: {read} Write a new message.",
            )
            await inbox.finish(tx, arrival.seq, self.services.clock(), detail="an edit")
        self.services.delivery.wake()

    def _edited(self, edit: Edit) -> str:
        """Return what an edit says to an agent; nothing if it says something else."""
        said = command_input.said(Text(text=edit.text), prefix=self.services.command_prefix)
        is_talk = isinstance(said, command_input.Talk) and not edit.text.startswith("@")
        return edit.text if is_talk and len(edit.text) <= LONGEST_MESSAGE else ""


def can_be_edited(message: AgentMessage, text: str) -> bool:
    """Return whether a text can replace a message. Files that came with the message would be lost, so then not."""
    has_file = _FENCE in message.text and _FENCE not in text
    return bool(text.strip()) and not message.attachments and not has_file


#: How the content of a text file begins and ends in a message.
_FENCE = "\n```"
_FILES_UNREAD = "Files that come with a command are not passed on: write to the agent in its thread, without a command."


def _too_long(text: str) -> str:
    return (
        f"This message has {len(text):,} characters, and an agent takes {LONGEST_MESSAGE:,}. Nothing was sent. Put the "
        "text into a file in the agent's workspace and name the file."
    )


def _absent(row: AgentRow) -> str | None:
    """Return the notice about an agent that reads nothing now, or None if it does."""
    if row.wanted == "frozen":
        back = command_line(f"resume {row.name}")
        return f"{row.name} is frozen; this and later messages wait until {back} brings it back."
    if row.wanted == "running" and row.state in ENDED and RestartRecord.from_json(row.revival).try_at is not None:
        return f"{row.name} is down at the moment; it starts again by itself, and reads this then."
    if row.wanted != "stopped" and row.state not in {"failed", "stopped"}:
        return None
    now = row.state if row.state in {"failed", "stopped"} else "about to stop"
    again = command_line(f"launch {row.name}" if row.purpose is None else f"restart {row.name}")
    if row.wanted == "running":
        # An automatic restart may be recorded at any moment; this text is correct in either case.
        start = command_line(f"restart {row.name}")
        return f"{row.name} is down; it reads this when it runs again. {start} starts it now."
    return f"{row.name} is {now}; it will read this, and what follows, when it runs again: {again}."


def _absence(row: AgentRow, conversation: str) -> str:
    """Return the key of that notice, which is sent once per conversation until the agent has run again."""
    return f"absence/{row.name}/{row.launch_id}/{row.started_at or 0:.3f}/{row.wanted}/{conversation}"
