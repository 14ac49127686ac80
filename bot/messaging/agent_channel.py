"""Messages on an agent's behalf: their place, their form, and the redaction of secrets.

Everything here happens inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import written
from bot.messaging.bridge import Bridge
from bot.messaging.composer import Composer, MessagePlace
from bot.messaging.thread_lifecycle import ThreadTitles
from connectors.contract.messages import Button, Capabilities, Emphasis, Message, Outbound, Priority, React, Replace
from connectors.delivery import outbox
from connectors.delivery.capability_fallbacks import beside_byline
from core.redaction import SecretMasker
from database.queries.agents import agent_messages
from database.queries.agents.agent_messages import AgentMessage
from database.queries.agents.agents import AgentRow

#: Separator between a question and its list of answers.
ANSWERS: Final = "\n\n- "


@dataclass(frozen=True, slots=True)
class AgentChannel:
    speaker: Composer
    redaction: SecretMasker
    capabilities: Callable[[str], Capabilities]
    clock: Callable[[], float]
    time_of_day: Callable[[float], str]
    """Formatter of times in the operator's time zone."""
    prefix: str
    """Prefix of commands in chat."""
    bridge: Bridge = field(default=Bridge(), kw_only=True)
    """The chat rooms that mirror each other."""
    dashboard: str | None = field(default=None, kw_only=True)
    """The address of the dashboard where people reach it from elsewhere, or None."""

    @property
    def titles(self) -> ThreadTitles:
        """Titles of agents' threads."""
        return ThreadTitles(self.capabilities, self.clock)

    def thread(self, row: AgentRow) -> MessagePlace:
        """Return the agent's own thread."""
        return MessagePlace(row.connector, thread_of=row.thread_key)

    def place_of(self, row: AgentRow, message: AgentMessage | None) -> MessagePlace:
        """Return the place where a message to the agent is answered."""
        if message is not None and message.connector and message.answer_in:
            return MessagePlace(message.connector, conversation=message.answer_in)
        return self.thread(row)

    def asker(self, row: AgentRow, message: AgentMessage | None) -> MessagePlace | None:
        """Return an additional place for the answer if the sender is on another chat system, or None.

        The sender may not see the agent's thread there.
        """
        if message is None or message.answer_in or not message.connector or not message.conversation:
            return None
        if message.connector == row.connector:
            return None
        return MessagePlace(message.connector, conversation=message.conversation)

    async def place(self, tx: AsyncConnection, row: AgentRow, message_id: str | None) -> MessagePlace:
        """Return the place where the message with this id is answered."""
        message = await agent_messages.get(tx, message_id) if message_id is not None else None
        return self.place_of(row, message)

    async def conversation(self, tx: AsyncConnection, row: AgentRow, message_id: str) -> tuple[str, str] | None:
        """Return the connector and conversation where a message is answered, or None if its thread is not open yet."""
        place = await self.place(tx, row, message_id)
        if place.conversation is not None:
            return place.connector, place.conversation
        opener = await outbox.get(tx, place.thread_of) if place.thread_of is not None else None
        made = opener.made_conversation if opener is not None else None
        return None if made is None else (place.connector, made)

    async def note(self, tx: AsyncConnection, row: AgentRow, key: str, text: str) -> None:
        """Post a text in the agent's thread."""
        await self.speak(tx, key, text, self.thread(row), agent=nameless(row, text))
        await self.titles.show(tx, row.name, spoken=True)

    async def say(self, tx: AsyncConnection, key: str, text: str, place: MessagePlace) -> None:
        """Post a text that is not urgent."""
        await self.speak(tx, key, text, place, priority=Priority.PROGRESS)

    async def speak(
        self,
        tx: AsyncConnection,
        key: str,
        text: str,
        place: MessagePlace,
        *,
        priority: Priority = Priority.REPLY,
        emphasis: Emphasis = Emphasis.NOTICE,
        agent: str | None = None,
    ) -> None:
        """Post a text once under its key, in this place and in the rooms that mirror it.

        `agent` names the agent that the text is about; the name is shown where no thread shows it.
        """
        for at_key, at in self.bridge.spread(key, place):
            await self.speak_there(tx, at_key, text, at, priority=priority, emphasis=emphasis, agent=agent)

    async def ask(
        self,
        tx: AsyncConnection,
        key: str,
        text: Callable[[bool], str],
        place: MessagePlace,
        answers: Iterable[tuple[str, Button]],
        *,
        also: MessagePlace | None = None,
    ) -> None:
        """Ask operators a question in `place` and in every room of the bridge, with buttons or reactions to answer it.

        Args:
            tx: the transaction that records the cause.
            key: the key of the question; `over` closes it under this key.
            text: the question (Markdown), depending on whether buttons or reactions can answer it there.
            place: the place of the cause.
            answers: the name of each answer, for its reaction's outbox key, and its button, whose key is the reaction
                itself.
            also: another place to ask in, unless the question is asked on that chat system anyway.
        """
        answers = tuple(answers)
        for at_key, at in self.bridge.standing(key, place, also):
            can = self.capabilities(at.connector)
            buttons = tuple(button for _, button in answers) if can.buttons else ()
            words = text(can.buttons or can.taps)
            await self.speak_there(tx, at_key, words, at, priority=Priority.APPROVAL, buttons=buttons)
            for name, button in answers if can.taps and not can.buttons else ():
                reaction = React(target=at_key, key=button.key, own=True)
                await outbox.put(tx, at.outbound(f"{at_key}/{name}", reaction, Priority.RECEIPT), self.clock())

    async def over(self, tx: AsyncConnection, key: str, text: str, *, below: bool = False) -> None:
        """Close the question under `key` in every place, with a text about the result (Markdown).

        Args:
            tx: the transaction that closes it.
            key: the key of the question.
            text: the result.
            below: keep the question without its answers, and add the text below it.
        """
        for each in self.bridge.keys(key):
            asked = await outbox.get(tx, each)
            if asked is None:
                continue
            out = asked.outbound
            said_before = out.content.text.partition(ANSWERS)[0] if isinstance(out.content, Message) else ""
            ended = f"{said_before}\n\n{text}" if below and said_before else text
            words = self.redaction(written(ended, self.prefix))
            place = MessagePlace(out.connector, conversation=out.conversation, thread_of=out.thread_of)
            can = self.capabilities(place.connector)
            if can.edits:
                said = self.speaker.replace(
                    f"{each}/closed",
                    each,
                    words,
                    place,
                    can,
                    priority=Priority.REPLY,
                    final=True,
                    emphasis=Emphasis.NOTICE,
                )
                for outbound in said:
                    await outbox.put(tx, outbound, self.clock())
            else:
                await self.speak_there(tx, f"{each}/closed", words, place)

    async def speak_there(
        self,
        tx: AsyncConnection,
        key: str,
        text: str,
        place: MessagePlace,
        *,
        priority: Priority = Priority.REPLY,
        emphasis: Emphasis = Emphasis.NOTICE,
        buttons: tuple[Button, ...] = (),
        agent: str | None = None,
    ) -> None:
        """Post a text only in this place, not in rooms that mirror it."""
        can = self.capabilities(place.connector)
        if agent is not None:
            can = beside_byline(can, agent)
        redacted = self.redaction(written(text, self.prefix))
        said = self.speaker.say(key, redacted, place, can, priority=priority, emphasis=emphasis, buttons=buttons)
        for outbound in said if agent is None else (by(agent, said[0]), *said[1:]):
            await outbox.put(tx, outbound, self.clock())


def by(agent: str, outbound: Outbound) -> Outbound:
    """Return the same message with the agent as its author."""
    match outbound.content:
        case Message() as message:
            return replace(outbound, content=replace(message, byline=agent))
        case Replace(message=message) as change:
            return replace(outbound, content=replace(change, message=replace(message, byline=agent)))
        case _:
            return outbound


def nameless(row: AgentRow, text: str) -> str | None:
    """Return the agent's name, or None if the text contains it anyway."""
    return None if row.name in text else row.name
