"""Words for topics: those that open one, and those in the thread of a topic that has not begun, or is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.messaging.attachments import Fetched
from bot.messaging.outbox_keys import OPENER
from bot.messaging.own_messages import OwnMessages
from bot.messaging.replies import Replies, derived_id
from bot.projects import opening
from bot.projects import text as topic_text
from bot.projects.placement import OpenTopic, Placements
from bot.projects.services import ProjectServices
from bot.text.errors import UserError
from connectors.contract.messages import Inbound
from connectors.delivery import inbox, outbox
from connectors.delivery.inbox import Arrival
from core.crash_points import declare
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.chat import topics
from database.queries.chat.topics import OVER, Topic

ADD = declare("topics.add")
ADD_WORDS = declare("topics.add_words")


@dataclass(frozen=True, slots=True)
class ClosedTopic:
    """The words belong to a topic, and cannot be taken; `why` is the answer."""

    why: str


Recipient: TypeAlias = "OpenTopic | Topic | ClosedTopic | AgentRow | None"


@dataclass(frozen=True, slots=True)
class TopicInput:
    services: ProjectServices
    replies: Replies
    own_messages: OwnMessages

    async def place(self, inbound: Inbound, text: str) -> Recipient:
        """Return where words go if topics or the room's settings decide that, or None.

        Raises:
            UserError: the room's agent does not exist.
        """
        if inbound.parent is not None:
            return await self._in_thread(inbound, text)
        placement = self._placements().of(inbound.connector, inbound.conversation, text)
        if placement is None or isinstance(placement, OpenTopic):
            return self._with_thread(inbound, placement)
        return await self.services.agents.get(placement.name)

    def _placements(self) -> Placements:
        settings = self.services.settings
        return Placements(projects=settings.projects, rooms=settings.rooms, locate=self.services.bridge.locate)

    def _with_thread(self, inbound: Inbound, placement: OpenTopic | None) -> Recipient:
        if placement is None or self.services.capabilities(inbound.connector).threads:
            return placement
        launch = command_line("launch NAME --workspace FOLDER --task TEXT")
        return ClosedTopic(
            f"This chat system has no threads, and a topic of {placement.project} needs one. Your message was not "
            f"delivered; {launch} starts an agent instead."
        )

    async def _in_thread(self, inbound: Inbound, text: str) -> Recipient:
        """Return the topic of a thread. A thread that a person opened in a project's room is a new topic's."""
        opener = await self.own_messages.find(
            inbound.connector,
            (OPENER,),
            lambda tx: outbox.by_conversation(tx, inbound.connector, inbound.conversation),
        )
        if opener is None:
            project = self._placements().project_of(inbound.connector, inbound.parent or "")
            return None if project is None else self._with_thread(inbound, OpenTopic(project, text))
        async with self.services.store.read() as tx:
            topic = await topics.of_thread(tx, opener.key)
        if topic is not None and (topic.state in OVER or topic.state == "ending"):
            return ClosedTopic(topic_text.over(topic))
        return topic

    async def open(self, arrival: Arrival, place: OpenTopic, text: str, attachments: Fetched, *, files: int) -> None:
        """Open a topic, in the transaction that finishes the event."""
        inbound = arrival.inbound
        topic_id = derived_id("t", inbound)
        try:
            taken = await opening.names_in_use(self.services, place.project)
        except UserError as error:
            await self.replies.answer(arrival, str(error))
            return

        async def act(tx: AsyncConnection) -> None:
            await opening.add(
                tx,
                self.services,
                inbound,
                topic_id=topic_id,
                project=place.project,
                taken=taken,
                text=place.text,
                words=text,
                attachments=attachments.kept,
                files=files,
            )
            if attachments.refused:
                await self.replies.say(tx, inbound, f"{topic_id}/note", "\n".join(attachments.refused))
            await inbox.finish(tx, arrival.seq, self.services.clock())

        await self.services.store.transact(ADD, act)
        self.services.topics.wake()
        self.services.delivery.wake()

    async def add(self, arrival: Arrival, topic: Topic, text: str, attachments: Fetched) -> None:
        """Keep words for a topic that has not begun. If it began just now, the words go to its agent."""
        inbound = arrival.inbound
        message_id = derived_id("m", inbound)
        async with self.services.store.write(ADD_WORDS) as tx:
            current = await topics.get(tx, topic.id)
            row = await agents.get(tx, topic.agent)
            if current is not None and current.state == "waiting":
                await opening.add_words(
                    tx,
                    self.services,
                    inbound,
                    current,
                    message_id=message_id,
                    words=text,
                    attachments=attachments.kept,
                )
                await self.replies.say(tx, inbound, f"{message_id}/waits", topic_text.still_waits(current))
            elif row is not None:
                await self.services.agents.send(
                    tx,
                    row,
                    text,
                    message_id=message_id,
                    by=inbound.identity,
                    attachments=attachments.kept,
                    connector=inbound.connector,
                    conversation=inbound.conversation,
                    event_id=inbound.event_id,
                )
            if attachments.refused:
                await self.replies.say(tx, inbound, f"{message_id}/note", "\n".join(attachments.refused))
            await inbox.finish(tx, arrival.seq, self.services.clock())
        if row is not None:
            self.services.agents.bring_mail(row.name)
        self.services.topics.wake()
        self.services.delivery.wake()
