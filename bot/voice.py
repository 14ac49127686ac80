"""How something is said on an agent's behalf: in which place, in which shape, and with what must not leave taken out.

Everything here happens inside the caller's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.commands.lines import written
from bot.saying import Place
from connectors import outbox
from connectors.messages import Emphasis, Priority
from register.queries import agent_messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.redaction import Redaction
    from bot.saying import Speaker
    from connectors.messages import Capabilities
    from register.queries.agent_messages import AgentMessage
    from register.queries.agents import AgentRow


@dataclass(frozen=True, slots=True)
class Voice:
    speaker: Speaker
    redaction: Redaction
    capabilities: Callable[[str], Capabilities]
    clock: Callable[[], float]
    time_of_day: Callable[[float], str]
    """A moment as the operator's clock shows it."""
    prefix: str
    """What commands begin with in chat."""

    def thread(self, row: AgentRow) -> Place:
        """The agent's own thread."""
        return Place(row.connector, thread_of=row.thread_key)

    def place_of(self, row: AgentRow, message: AgentMessage | None) -> Place:
        """Where a message to the agent is answered."""
        if message is not None and message.connector and message.answer_in:
            return Place(message.connector, conversation=message.answer_in)
        return self.thread(row)

    async def place(self, tx: AsyncConnection, row: AgentRow, message_id: str | None) -> Place:
        """Where the message of this id is answered."""
        message = await agent_messages.get(tx, message_id) if message_id is not None else None
        return self.place_of(row, message)

    async def conversation(self, tx: AsyncConnection, row: AgentRow, message_id: str) -> tuple[str, str] | None:
        """Connector and conversation in which a message is answered; None while its thread does not stand yet."""
        place = await self.place(tx, row, message_id)
        if place.conversation is not None:
            return place.connector, place.conversation
        opener = await outbox.get(tx, place.thread_of) if place.thread_of is not None else None
        made = opener.made_conversation if opener is not None else None
        return None if made is None else (place.connector, made)

    async def note(self, tx: AsyncConnection, row: AgentRow, key: str, text: str) -> None:
        """Say something in the agent's thread."""
        await self.speak(tx, key, text, self.thread(row))

    async def say(self, tx: AsyncConnection, key: str, text: str, place: Place) -> None:
        """Say something that nobody waits for."""
        await self.speak(tx, key, text, place, priority=Priority.PROGRESS)

    async def speak(
        self,
        tx: AsyncConnection,
        key: str,
        text: str,
        place: Place,
        *,
        priority: Priority = Priority.REPLY,
        emphasis: Emphasis = Emphasis.NOTICE,
    ) -> None:
        """Say something, once under its key."""
        can = self.capabilities(place.connector)
        redacted = self.redaction(written(text, self.prefix))
        for outbound in self.speaker.say(key, redacted, place, can, priority=priority, emphasis=emphasis):
            await outbox.put(tx, outbound, self.clock())
