"""What is said to who wrote an event: in its conversation, and under keys that come from it, so that it stands once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.commands.lines import command_line, written
from bot.headway import Headway
from bot.saying import Place
from connectors import inbox, outbox
from connectors.messages import Priority, React, Text
from register.crashpoints import declare

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.commands.execution import Outcome
    from bot.saying import Speaker
    from bot.services import Services
    from connectors.inbox import Arrival
    from connectors.messages import Inbound

REMARK = declare("chat.remark")


def derived_id(kind: str, inbound: Inbound) -> str:
    """The id of what an event causes: the same whenever the event is looked at."""
    digest = hashlib.blake2s(f"{inbound.connector}\0{inbound.event_id}".encode(), digest_size=10).hexdigest()
    return f"{kind}{digest}"


def confirmation_key(run_id: str) -> str:
    """The outbox key of the message that asks whether a command is really meant."""
    return f"confirm/{run_id}"


def answer_key(run_id: str) -> str:
    """The outbox key of the answer to a command."""
    return f"c/{run_id}"


@dataclass(frozen=True, slots=True)
class Replies:
    services: Services
    speaker: Speaker

    async def say(self, tx: AsyncConnection, inbound: Inbound, key: str, text: str) -> None:
        """Answer in the conversation that an event came from."""
        place = Place(inbound.connector, conversation=inbound.conversation)
        can = self.services.capabilities(inbound.connector)
        reply_to = inbound.event_id if isinstance(inbound.body, Text) else None
        redacted = self.services.redact(written(text, self.services.command_prefix))
        for outbound in self.speaker.say(key, redacted, place, can, priority=Priority.REPLY, reply_to=reply_to):
            await outbox.put(tx, outbound, self.services.clock())

    async def outcome(self, tx: AsyncConnection, inbound: Inbound, outcome: Outcome) -> None:
        """Answer with what became of a command; of one that waits for a confirmation, ask for it."""
        if outcome.state != "confirming":
            await self.say(tx, inbound, answer_key(outcome.run_id), outcome.text)
            if (file := outcome.reply.file) is not None:
                place = Place(inbound.connector, conversation=inbound.conversation)
                behind = place.outbound(f"{answer_key(outcome.run_id)}/attached", file, Priority.REPLY)
                await outbox.put(tx, behind, self.services.clock())
            await self.headway(inbound).end(tx, outcome.state)
            return
        key = confirmation_key(outcome.run_id)
        can = self.services.capabilities(inbound.connector)
        react = "React with ✅, or write" if can.taps else "Write"
        await self.say(
            tx,
            inbound,
            key,
            f"{command_line(outcome.name)} cannot be undone. {react} {command_line('confirm')} within three minutes; "
            f"{command_line('decline')} takes it back.",
        )
        if can.taps:
            place = Place(inbound.connector, conversation=inbound.conversation)
            mark = React(target=key, key="✅", own=True)
            await outbox.put(tx, place.outbound(f"{key}/yes", mark, Priority.RECEIPT), self.services.clock())

    async def finish(self, tx: AsyncConnection, arrival: Arrival, outcome: Outcome) -> None:
        """Finish the event that gave a command, with what became of it."""
        await self.outcome(tx, arrival.inbound, outcome)
        await inbox.finish(tx, arrival.seq, self.services.clock(), detail=outcome.state)

    def headway(self, inbound: Inbound) -> Headway:
        """How far the command has got that an event gave."""
        place = Place(inbound.connector, conversation=inbound.conversation)
        return Headway(self.services, self.speaker, place, derived_id("p", inbound))

    async def answer(self, arrival: Arrival, text: str | None, *, detail: str | None = None) -> None:
        """Finish an event, with words or without."""
        async with self.services.store.write(REMARK) as tx:
            if text is not None:
                await self.say(tx, arrival.inbound, derived_id("n", arrival.inbound), text)
            await inbox.finish(tx, arrival.seq, self.services.clock(), detail=detail)
        self.services.delivery.wake()
