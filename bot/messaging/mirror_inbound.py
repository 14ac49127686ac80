"""Mirroring of people's messages to other chat rooms, with the author and as a quote.

The quote prevents a mirrored text from passing for a command or for a message of Muster's own. Copies have keys derived
from the original event, so each appears once. Edits and deletions change the copies.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.messaging.composer import Composer, MessagePlace
from bot.messaging.services import MessagingServices
from bot.text import markdown
from connectors.contract.messages import (
    Attachment,
    CommandReading,
    Edit,
    Emphasis,
    Inbound,
    Priority,
    Redaction,
    Replace,
    Text,
)
from connectors.delivery import inbox, outbox
from core.crash_points import declare

MIRROR = declare("chat.mirror")


def mirror_key(connector: str, event_id: str) -> str:
    """Return the key of a message's copies, without the connector (`bot.messaging.bridge.Bridge.spread`)."""
    digest = hashlib.blake2s(f"{connector}\0{event_id}".encode(), digest_size=10).hexdigest()
    return f"b/{digest}"


def to(who: str, text: str) -> str:
    """Return the answer to a person as other rooms show it (Markdown)."""
    return f"↳ to {who}:\n\n{text}"


def of(agent: str, text: str) -> str:
    """Return an agent's message to a person who wrote from elsewhere (Markdown)."""
    return f"**{agent}**:\n\n{text}"


def quoted(who: str, text: str, attachments: tuple[Attachment, ...] = ()) -> str:
    """Return a person's message as other rooms show it (Markdown)."""
    # Files stay where they are: the other chat system's people have no access to them there.
    files = [
        f"📎 {markdown.code(markdown.one_line(each.name))} ({markdown.code(markdown.one_line(each.media_type))})"
        for each in attachments
    ]
    lines = [*(markdown.shown(text).split("\n") if text.strip() else []), *files]
    return "\n".join([f"{who}:", *(f"> {line}" for line in lines)])


@dataclass(frozen=True, slots=True)
class MirrorInbound:
    services: MessagingServices
    speaker: Composer

    async def carry(self, inbound: Inbound) -> None:
        """Copy an event to the rooms that mirror its room, if there are any."""
        bridge = self.services.bridge
        match inbound.body:
            case Text() as body if inbound.parent is None and bridge.joins(_place(inbound)):
                await self._words(inbound, body)
            case Edit(target=target, text=text) if bridge.rooms:
                await self._change(inbound, target, quoted(bridge.who(inbound.identity), f"{text} (edited)"))
            case Redaction(target=target) if bridge.rooms:
                await self._change(inbound, target, None)

    async def _words(self, inbound: Inbound, body: Text) -> None:
        # A command chosen from a menu is shown as if it were typed.
        words = f"{self.services.command_prefix}{body.text}" if body.reading is CommandReading.COMMAND else body.text
        text = self.services.redact(quoted(self.services.bridge.who(inbound.identity), words, body.attachments))
        key = mirror_key(inbound.connector, inbound.event_id)
        async with self.services.store.write(MIRROR) as tx:
            for at_key, at in self.services.bridge.spread(key, _place(inbound))[1:]:
                can = self.services.capabilities(at.connector)
                for outbound in self.speaker.say(at_key, text, at, can, priority=Priority.FINAL):
                    await outbox.put(tx, outbound, self.services.clock())
        self.services.delivery.wake()

    async def _change(self, inbound: Inbound, target: str, text: str | None) -> None:
        """Replace the text of each copy; None: the original was deleted."""
        key, change = (mirror_key(inbound.connector, event) for event in (target, inbound.event_id))
        async with self.services.store.read() as tx:
            copies = [row for each in self.services.bridge.keys(key)[1:] if (row := await outbox.get(tx, each))]
            said = await inbox.find(tx, inbound.connector, target) if copies else None
        # An edit by another person is ignored. The chat system itself decides who may delete messages of others.
        if not copies or (text is not None and (said is None or said.inbound.sender != inbound.sender)):
            return
        author = inbound.identity if said is None else said.inbound.identity
        words = self.services.redact(f"{self.services.bridge.who(author)} deleted this." if text is None else text)
        async with self.services.store.write(MIRROR) as tx:
            for row in copies:
                await self._replace(tx, change, row, words)
        self.services.delivery.wake()

    async def _replace(self, tx: AsyncConnection, change: str, row: outbox.Row, words: str) -> None:
        out = row.outbound
        place = MessagePlace(out.connector, conversation=out.conversation)
        can = self.services.capabilities(out.connector)
        message = markdown.message(words, emphasis=Emphasis.NOTICE)
        if len(message.text) * 2 > can.max_text or not can.edits:
            return
        content = Replace(target=row.key, message=message)
        outbound = place.outbound(f"{change}@{out.connector}", content, Priority.FINAL)
        await outbox.put(tx, outbound, self.services.clock())


def _place(inbound: Inbound) -> MessagePlace:
    return MessagePlace(inbound.connector, conversation=inbound.conversation)
