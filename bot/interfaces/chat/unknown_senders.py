"""Messages from people without permissions.

A stranger gets one polite line a day. Attempts are recorded within limits, so that a stranger can neither fill the disk
nor make the bot talk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from bot.agents.services import AgentServices
from bot.commands.slash_command_names import TURNED_AWAY
from bot.messaging.composer import Composer, MessagePlace
from bot.messaging.replies import was_pressed
from bot.text import markdown
from connectors.contract.messages import CommandReading, Inbound, Priority, Redaction, Text
from connectors.delivery import inbox, outbox
from connectors.delivery.inbox import Arrival
from core.crash_points import declare
from database.queries.chat import unknown_senders
from database.queries.operations import audit_log

TURN_AWAY = declare("chat.turn_away")

#: Seconds between two replies to the same stranger.
QUIET = 86_400.0
#: Attempts of one stranger that the audit log records individually; later ones are only counted.
AUDITED_ATTEMPTS = 20
#: Strangers with a record of their own; all others share one row and get no reply.
KNOWN_STRANGERS = 1_000
_OVERFLOW = "*"
_CLIP = 200


@dataclass(frozen=True, slots=True)
class UnknownSenders:
    services: AgentServices
    speaker: Composer

    async def turn_away(self, arrival: Arrival) -> None:
        inbound = arrival.inbound
        now = self.services.clock()
        async with self.services.store.write(TURN_AWAY) as tx:
            identity = inbound.identity
            known = await unknown_senders.get(tx, identity)
            if known is None and await unknown_senders.count(tx) >= KNOWN_STRANGERS:
                identity = _OVERFLOW
                known = await unknown_senders.get(tx, identity)
            tried = _tried(inbound, self.services.redact)
            attempts = known.attempts if known is not None else 0
            told_at = known.told_at if known is not None else None
            pressed = was_pressed(inbound)
            # The menu has already answered a command chosen from it.
            written = isinstance(inbound.body, Text) and inbound.body.reading is CommandReading.PLAIN
            speak = (pressed or written) and identity != _OVERFLOW
            speak = speak and (told_at is None or now - told_at >= QUIET)
            await unknown_senders.note(tx, identity, now=now, text=tried, told=speak)
            if attempts < AUDITED_ATTEMPTS:
                await audit_log.add(
                    tx,
                    key=f"stranger/{arrival.seq}",
                    at=now,
                    identity=inbound.identity,
                    door="chat",
                    connector=inbound.connector,
                    conversation=inbound.conversation,
                    action="stranger",
                    arguments={"text": tried},
                    outcome="refused",
                    detail="no operator",
                )
            if speak:
                digest = hashlib.blake2s(identity.encode(), digest_size=8).hexdigest()
                place = MessagePlace(inbound.connector, conversation=inbound.conversation)
                can = self.services.capabilities(inbound.connector)
                key = f"stranger/{digest}/{int(now)}"
                to = inbound.event_id if pressed else None
                for outbound in self.speaker.say(
                    key, TURNED_AWAY, place, can, priority=Priority.PROGRESS, reply_to=to, private=pressed
                ):
                    await outbox.put(tx, outbound, now)
            await inbox.finish(tx, arrival.seq, now, detail="stranger", forget=True)
        self.services.delivery.wake()


def _tried(inbound: Inbound, redact: Callable[[str], str]) -> str:
    match inbound.body:
        case Text(text=text):
            return markdown.gist(text, redact, _CLIP)
        case Redaction():
            return "took a message back"
        case body:
            return f"{type(body).__name__.lower()}"
