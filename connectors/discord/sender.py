"""What goes out: one thing to say as requests to Discord, none of which says anything twice.

A text that is too long for one message goes out in several. The first has the nonce of the outbox key, the others one
made from the first one's id, so that they are found again when the text is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from connectors.contract.connector_protocol import MessageRefused, TryLater
from connectors.contract.messages import File, Message, OpenThread, Outbound, React, Replace, Retitle, Sent
from connectors.discord import message_conversion
from connectors.discord.interactions.interaction_handler import COMMAND
from connectors.discord.interactions.interaction_replies import InteractionReplies
from connectors.discord.json_values import Json, identifier
from connectors.discord.message_splitting import MOST_PARTS, in_parts
from connectors.discord.rest_client import (
    ARCHIVED,
    HAS_THREAD,
    NO_DIRECT,
    TOO_LARGE,
    UNKNOWN_CHANNEL,
    UNKNOWN_MESSAGE,
    WRONG_KIND_OF_CHANNEL,
    DiscordClient,
    DiscordRefusal,
)
from connectors.discord.sent_log import SentLog
from connectors.discord.thread_cache import ThreadCache

#: The message or its thread is gone, it has all the reactions that one may have, or its author has blocked the bot.
_NOTHING_TO_MARK = (UNKNOWN_MESSAGE, UNKNOWN_CHANNEL, 30010, 90001)
_WEEK = 10_080
"""Minutes without a word after which Discord archives a thread of itself; it allows no more."""
_PAGE = 100
_SEARCHED = 500
"""Messages of a conversation among which one of ours is looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscordSender:
    """Says things over one wire.

    All methods raise `DiscordRequestError`s, and `MessageRefused` where nothing was asked.
    """

    wire: DiscordClient
    places: ThreadCache
    record: SentLog
    answers: InteractionReplies
    me: str

    async def say(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent:
        """Say one thing. What belongs in a thread that was deleted is said in the channel."""
        place = self.places.instead_of(conversation)
        try:
            return await self._say(outbound, place, target)
        except DiscordRefusal as error:
            if error.code != UNKNOWN_CHANNEL or place != conversation or not await self._was_thread(conversation):
                raise
        self.places.is_gone(conversation)
        return await self._say(outbound, self.places.channel_of(conversation), target)

    async def _say(self, outbound: Outbound, conversation: str, target: str | None) -> Sent:
        match outbound.content:
            case Message() as message:
                return Sent(event_id=await self._message(conversation, message, outbound.key))
            case OpenThread(title=title, message=message):
                return await self._open(conversation, title, message, outbound.key)
            case Replace(message=message, final=final):
                if target is None:
                    raise MessageRefused("the message that is to be replaced was never sent.")
                again = await self._replace(conversation, target, message, outbound.key, final=final)
                return Sent(event_id=again or f"{target}/{message_conversion.nonce(outbound.key)}")
            case React(target=given, key=key):
                message_id = self._marked(target or given)
                if message_id is None:
                    return Sent(event_id=f"{given}/{self.me}/{key}")
                place = self._place_of(conversation, message_id)
                path = f"/channels/{place}/messages/{_number(message_id)}/reactions/{quote(key, safe='')}/@me"
                with _ignored(*_NOTHING_TO_MARK):
                    await self._awake(place, "PUT", path)
                return Sent(event_id=f"{message_id}/{self.me}/{key}")
            case File() as file:
                return Sent(event_id=await self._file(conversation, file, outbound.key))
            case Retitle(title=title, archived=archived):
                await self._retitle(conversation, message_conversion.title(title), archived=archived)
                return Sent(event_id=f"{conversation}/{message_conversion.nonce(outbound.key)}")

    async def find(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent | None:
        """Look whether it stands. What can be asked for twice without being said twice is not looked for."""
        conversation = self.places.instead_of(conversation)
        match outbound.content:
            case Message(private=True) | File(private=True):
                return None  # it is in no history
            case Message(text=text) | OpenThread(message=Message(text=text)):
                parts = in_parts(text)
                found = await self._own(conversation, outbound.key, parts[0], None)
                return None if found is None else await self._went_on(conversation, found, parts, outbound)
            case File(name=name, caption=caption):
                found = await self._own(conversation, outbound.key, caption, message_conversion.file_name(name))
                return None if found is None else Sent(event_id=found)
            case Replace(message=Message(text=text)) if target is not None:
                opened = self.places.parent(target) == conversation
                await self._look(target if opened else conversation, target, in_parts(text))
        return None

    # --- saying --------------------------------------------------------------------------------------------------

    async def _went_on(self, conversation: str, first: str, parts: list[str], outbound: Outbound) -> Sent:
        """Say what belongs to a message that exists already."""
        await self.record.put(message_conversion.nonce(outbound.key), first)
        if isinstance(outbound.content, OpenThread):
            return await self._below(conversation, first, outbound.content.title, parts, look=True)
        await self._look(conversation, first, parts)
        await self._others(conversation, first, parts)
        return Sent(event_id=first)

    async def _message(self, conversation: str, message: Message, key: str) -> str:
        alone = await self.answers.tell(message.text, to=message.reply_to, key=key) if message.private else None
        return alone or await self._text(conversation, message, key)

    async def _text(self, conversation: str, message: Message, key: str) -> str:
        parts = in_parts(message.text)
        first = await self._first(conversation, message, parts[0], key)
        await self._others(conversation, first, parts)
        return first

    async def _first(self, conversation: str, message: Message, part: str, key: str) -> str:
        """Say the first part, in the place where Discord waits for an answer to an interaction if there is one."""
        interaction = self.answers.kept.get(message.reply_to)
        reply_to = message.reply_to if interaction is None else interaction.message
        body = message_conversion.spoken(part, key=key, reply_to=reply_to, buttons=message.buttons)
        first = None if interaction is None else await self.answers.first(interaction, conversation, body)
        return first or await self._post(conversation, body)

    async def _open(self, conversation: str, title: str, message: Message, key: str) -> Sent:
        parts = in_parts(message.text)
        first = await self._first(conversation, message, parts[0], key)
        return await self._below(conversation, first, title, parts)

    async def _below(self, conversation: str, first: str, title: str, parts: list[str], *, look: bool = False) -> Sent:
        """Open the thread below a message that stands. Made from a message, it is public."""
        body: Json = {"name": message_conversion.title(title), "auto_archive_duration": _WEEK}
        made: str | None = first
        try:
            await self.wire.call("POST", f"/channels/{conversation}/messages/{first}/threads", body=body)
            self.places.named(first, body["name"], archived=False)
        except DiscordRefusal as error:
            if error.code in (WRONG_KIND_OF_CHANNEL, NO_DIRECT):
                made = None  # there are no threads in direct conversations, nor in threads
            elif error.code != HAS_THREAD:
                raise
        if made is not None:
            self.places.stands(made, conversation)
        if look:
            await self._look(made or conversation, first, parts)
        await self._others(made or conversation, first, parts)
        return Sent(event_id=first, conversation=made)

    async def _replace(self, conversation: str, target: str, message: Message, key: str, *, final: bool) -> str | None:
        """Change a message. Returns the id of another one, where it was deleted and this has the last word on it."""
        parts = in_parts(message.text)
        place = self._place_of(conversation, target)
        body = message_conversion.edited(parts[0], message.buttons)
        try:
            answer = await self._awake(place, "PATCH", f"/channels/{place}/messages/{_number(target)}", body=body)
        except DiscordRefusal as error:
            if error.code != UNKNOWN_MESSAGE:
                raise
            return await self._text(conversation, message, key) if final else None
        # What did not fit into the message that opened a thread is in the thread.
        opened = isinstance(answer, dict) and message_conversion.has_thread(answer)
        await self._others(target if opened else conversation, target, parts)
        return None

    async def _look(self, conversation: str, first: str, parts: list[str]) -> None:
        """Find those of the parts after the first that stand, where a crash may have come before they were noted."""
        for number, part in enumerate(parts[1:], start=1):
            key = f"{first}#{number}"
            if (found := await self._own(conversation, key, part, None)) is None:
                return  # they were said one after the other
            await self.record.put(message_conversion.nonce(key), found)

    async def _others(self, conversation: str, first: str, parts: list[str]) -> None:
        """Have the parts after the first stand, each once, and none of an earlier text beyond them."""
        for number in range(1, MOST_PARTS):
            key = f"{first}#{number}"
            standing = self.record.message(message_conversion.nonce(key))
            place = f"/channels/{conversation}/messages"
            if number >= len(parts):
                if standing is None:
                    return
                with _ignored(UNKNOWN_MESSAGE):
                    await self.wire.call("DELETE", f"{place}/{standing}")
            elif standing is None:
                await self._post(conversation, message_conversion.spoken(parts[number], key=key))
            else:
                body = message_conversion.edited(parts[number])
                with _ignored(UNKNOWN_MESSAGE):  # someone deleted it, and does not want it
                    await self._awake(conversation, "PATCH", f"{place}/{standing}", body=body)

    async def _retitle(self, thread: str, title: str, *, archived: bool) -> None:
        """Name a thread, and put it away or get it back. Who made it may do so ("Threads", Editing & Deleting)."""
        known = self.places.name(thread)
        if known == (title, archived):
            return
        try:
            if not self.places.knows(thread):
                found = await self.wire.call("GET", f"/channels/{_number(thread)}")
                self.places.stands(thread, identifier(found.get("parent_id")))
            if thread in self.places.channels or not self.places.is_ours(thread):
                raise MessageRefused(f"{thread} is no thread in the bot's channels.")
            # How often something is renamed has a limit of its own, two times in ten minutes as people have found out.
            body: Json = {"name": title, "archived": archived}
            if known is not None and known[0] == title:
                await self.wire.call("PATCH", f"/channels/{thread}", body={"archived": archived})
            else:
                await self._awake(thread, "PATCH", f"/channels/{thread}", body=body, part="name")
        except DiscordRefusal as error:
            if error.forbidden:
                self.places.note(
                    "titles",
                    f"The bot may not rename the thread {thread}: {error}. Give its role Manage Threads.",
                    mild=True,
                )
            elif error.code != UNKNOWN_CHANNEL:
                raise  # of a thread that was deleted no one wants to know the name
            return
        self.places.forget_note("titles")
        self.places.named(thread, title, archived=archived)

    async def _file(self, conversation: str, file: File, key: str) -> str:
        try:
            raw = await asyncio.to_thread(Path(file.path).read_bytes)
        except OSError as error:
            raise MessageRefused(f"the file {file.name} cannot be read any more: {error.strerror}.") from error
        name = message_conversion.file_name(file.name)
        upload = (name, file.media_type, raw)
        try:
            if file.private:
                alone = await self.answers.show(file.caption, upload, to=file.reply_to, key=key)
                if alone is not None:
                    return alone
            return await self._post(conversation, message_conversion.uploaded(file.caption, name, key=key), file=upload)
        except DiscordRefusal as error:
            if error.status != 413 and error.code != TOO_LARGE:
                raise
            size = f"{len(raw) / 1_048_576:,.1f} MiB"
            text = f"{file.caption}\n\n({name} is not here: it has {size}, more than Discord takes in this server.)"
            instead = Message(text=text, reply_to=file.reply_to, private=file.private)
            return await self._message(conversation, instead, key)

    async def _post(self, conversation: str, body: Json, *, file: tuple[str, str, bytes] | None = None) -> str:
        """Create a message, unless it is known to stand. Returns its id."""
        standing = self.record.message(body["nonce"])
        if standing is not None:
            return standing
        number = await self.wire.send_message(f"/channels/{conversation}/messages", body=body, file=file)
        await self.record.put(body["nonce"], number)
        self.places.spoken_in(conversation)
        return number

    async def _awake(self, place: str, method: str, path: str, *, body: Json | None = None, part: str = "") -> Any:
        """Ask for something that archived threads do not take, after waking the thread if need be."""
        try:
            return await self.wire.call(method, path, body=body, part=part)
        except DiscordRefusal as error:
            if error.code != ARCHIVED:
                raise
            await self.wire.call("PATCH", f"/channels/{place}", body={"archived": False})
            self.places.spoken_in(place)
            return await self.wire.call(method, path, body=body, part=part)

    def _marked(self, event: str) -> str | None:
        """Return the message that a mark on an event goes to; None: there is none, and will be none."""
        interaction = self.answers.kept.get(event)
        if interaction is None:
            return event
        # A placeholder is nothing yet that could be marked.
        waits = interaction.kind == COMMAND and interaction.first is None
        if waits and interaction.alive(self.answers.clock()):
            raise TryLater("the command is not answered yet", after=1.0)
        return None if waits else interaction.message

    async def _was_thread(self, conversation: str) -> bool:
        """Return whether this was a thread of our channel: such a one has the id of the message that it was made
        from."""
        if self.places.parent(conversation) in self.places.channels:
            return True
        try:
            await self.wire.call("GET", f"/channels/{self.places.channel}/messages/{_number(conversation)}")
        except DiscordRefusal as error:
            if error.passes:
                raise
            return False
        return True

    def _place_of(self, conversation: str, message: str) -> str:
        """Return where a message stands: that which opened a thread is in the channel."""
        return (self.places.parent(conversation) or self.places.channel) if message == conversation else conversation

    # --- looking -------------------------------------------------------------------------------------------------

    async def _own(self, conversation: str, key: str, text: str, file: str | None) -> str | None:
        """Return the message that says this and was sent under `key`, as far as can be told.

        One that is in the record is known for sure. Else it is one of ours with the same words that is not known to
        have been sent under another key: the newest, since what is in doubt was the last thing said there.
        """
        if (known := self.record.message(message_conversion.nonce(key))) is not None:
            return known
        wanted = message_conversion.shown(text[: message_conversion.LONGEST])
        before: str | None = None
        for _ in range(_SEARCHED // _PAGE):
            query = {"limit": str(_PAGE)} | ({"before": before} if before else {})
            page = await self.wire.call("GET", f"/channels/{conversation}/messages", query=query)
            for message in page:
                if self._is_it(message, wanted, file):
                    return str(message["id"])
            if len(page) < _PAGE:
                return None
            before = str(page[-1]["id"])
        return None

    def _is_it(self, message: Json, text: str, file: str | None) -> bool:
        if message.get("author", {}).get("id") != self.me or self.record.knows(str(message.get("id"))):
            return False
        names = [each.get("filename") for each in message.get("attachments", [])]
        return message.get("content") == text and names == ([] if file is None else [file])


@contextlib.contextmanager
def _ignored(*codes: int) -> Iterator[None]:
    """Ignore Discord's refusals with these codes."""
    try:
        yield
    except DiscordRefusal as error:
        if error.code not in codes:
            raise


def _number(message: str) -> str:
    if identifier(message) is None:
        raise MessageRefused(f"{message[:40]!r} is no message of Discord's.")
    return message
