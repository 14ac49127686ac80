"""Between Discord's objects and messages: pure functions.

A conversation is the id of a channel, a thread or a direct conversation. A thread that was made from a message has the
message's id. What comes in was written by anybody: any field may be of any type, and nothing here raises because of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import discord
from discord.utils import DISCORD_EPOCH

from connectors.contract.messages import (
    Attachment,
    Button,
    ButtonStyle,
    Edit,
    Inbound,
    InboundBody,
    Reaction,
    Redaction,
    Text,
)
from connectors.discord.json_values import Json, clean, identifier, json_object, json_objects, string

LONGEST = 2_000
"""Characters in one message (Discord API, "Create Message")."""
LONGEST_TITLE = 100
"""Characters in the name of a thread (Discord API, "Start Thread from Message")."""
NOBODY: Json = {"parse": [], "replied_user": False}
"""Whom a message of ours pings ("Allowed Mentions Object")."""

PRESSED = "muster:"
"""With this the ids of our buttons begin; the key follows."""

_STYLES = {
    ButtonStyle.PLAIN: discord.ButtonStyle.secondary.value,
    ButtonStyle.GOOD: discord.ButtonStyle.success.value,
    ButtonStyle.DANGER: discord.ButtonStyle.danger.value,
}
_BUTTONS_PER_ROW = 5
_MOST_ROWS = 5
_LONGEST_LABEL = 80
SUPPRESS_EMBEDS = discord.MessageFlags.suppress_embeds.flag
#: Types of messages that people write. What is looked for may be of any type.
_WRITTEN = (discord.MessageType.default.value, discord.MessageType.reply.value)
_LONGEST_NAME = 200
_MOST_STICKERS, _MOST_CHOICES = 3, 10
LONGEST_KEY = 100
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}")
_UNKEPT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_UNSAFE_IN_NAMES = re.compile(r"[\x00-\x1f\x7f/\\]")


# --- inbound -----------------------------------------------------------------------------------------------------


def written(message: Json, *, connector: str, me: str, parent: str | None) -> Inbound | None:
    """Return what a message says; None when no person said it, or nothing in it.

    Args:
        message: as the gateway or the history has it.
        connector: the connector's name.
        me: our user id.
        parent: the main room, when the message is in a thread.
    """
    author = author_of(message)
    if author is None or author == me or message.get("type") not in _WRITTEN:
        return None
    text, mentioned = _without_mention(string(message.get("content")), me)
    text = "\n".join([*([text] if text else []), *_forwarded(message)])
    attachments = tuple(_attachments(message))
    if not text and not attachments:
        text = _wordless(message)
    if not text and not attachments:
        return None
    return _inbound(
        message, Text(text=text, attachments=attachments, mentions_us=mentioned), author, "", connector, parent
    )


def changed(message: Json, *, connector: str, me: str, parent: str | None) -> Inbound | None:
    """Return what an update of a message says; None when no one edited it (a preview of a link was added, for
    example)."""
    author, stamp = author_of(message), string(message.get("edited_timestamp"))
    if author is None or author == me or not stamp or message.get("type") not in _WRITTEN:
        return None
    body = Edit(target=string(message.get("id")), text=string(message.get("content")))
    return _inbound(message, body, author, f"/edit/{stamp[:40]}", connector, parent)


def deleted(event: Json, author: str, *, connector: str, parent: str | None) -> Inbound | None:
    """That a message of `author` was deleted. By whom, Discord does not say."""
    return _inbound(event, Redaction(target=string(event.get("id"))), author, "/deleted", connector, parent)


def reacted(event: Json, *, connector: str, me: str, conversation: str, parent: str | None) -> Inbound | None:
    """Return a reaction. The same one given again has the same id, so that it counts once."""
    user, message = identifier(event.get("user_id")), identifier(event.get("message_id"))
    key = string(json_object(event.get("emoji")).get("name"))[:LONGEST_KEY]
    bot = json_object(json_object(event.get("member")).get("user")).get("bot")
    if user is None or message is None or user == me or bot or not key:
        return None
    return Inbound(
        connector=connector,
        event_id=f"{message}/{user}/{key}",
        conversation=conversation,
        parent=parent,
        sender=user,
        sent_at=0.0,
        body=Reaction(target=message, key=key),
    )


def author_of(message: Json) -> str | None:
    """Return the person that wrote it; None when it was a bot or a webhook."""
    author = json_object(message.get("author"))
    return None if author.get("bot") or message.get("webhook_id") else identifier(author.get("id"))


def has_thread(message: Json) -> bool:
    """Return whether a thread was opened below a message ("Message Flags")."""
    flags = message.get("flags")
    return isinstance(flags, int) and bool(flags & discord.MessageFlags.has_thread.flag)


def sent_at(message: int) -> float:
    """Return when a message was sent, by its id."""
    return ((message >> 22) + DISCORD_EPOCH) / 1000


def first_of(seconds: float) -> int:
    """Return the least id of what is made at that time or later."""
    return max(0, int(seconds * 1000) - DISCORD_EPOCH) << 22


def _inbound(
    message: Json, body: InboundBody, author: str, suffix: str, connector: str, parent: str | None
) -> Inbound | None:
    number, channel = identifier(message.get("id")), identifier(message.get("channel_id"))
    if number is None or channel is None:
        return None
    return Inbound(
        connector=connector,
        event_id=number + suffix,
        conversation=channel,
        parent=parent,
        sender=author,
        sent_at=sent_at(int(number)),
        body=body,
    )


def _without_mention(text: str, me: str) -> tuple[str, bool]:
    name = re.compile(rf"<@!?{me}>")
    if found := name.match(text):
        return re.sub(r"\A\s*[:,]?\s*", "", text[found.end() :]), True
    return text, name.search(text) is not None


def attached(message: Json) -> list[Json]:
    """Return the files of a message, and those that were forwarded with it, as Discord tells them."""
    return [each for source in (message, *_snapshots(message)) for each in json_objects(source.get("attachments"))]


def _snapshots(message: Json) -> list[Json]:
    """Return what someone wrote elsewhere and the author forwards ("Message Snapshot Object")."""
    return [json_object(each.get("message")) for each in json_objects(message.get("message_snapshots"))]


def _forwarded(message: Json) -> list[str]:
    """Return the words that are forwarded, as a quotation: they are those of someone else, and no command."""
    said = [text for each in _snapshots(message) if (text := string(each.get("content")).strip())]
    return ["Forwarded:", *(f"> {line}" for text in said for line in text.split("\n"))] if said else []


def _wordless(message: Json) -> str:
    """Return what a message without words shows, in words: stickers ("Sticker Item Object"), or a poll ("Poll
    Object")."""
    stickers = [f"[sticker: {_line(each.get('name'))}]" for each in json_objects(message.get("sticker_items"))]
    poll = json_object(message.get("poll"))
    if not poll:
        return " ".join(stickers[:_MOST_STICKERS])
    choices = [json_object(each.get("poll_media")).get("text") for each in json_objects(poll.get("answers"))]
    listed = " / ".join(_line(each) for each in choices[:_MOST_CHOICES])
    return f"[poll: {_line(json_object(poll.get('question')).get('text'))} {listed}]"


def _line(value: object) -> str:
    return " ".join(string(value).split())[:_LONGEST_NAME] or "?"


def _attachments(message: Json) -> list[Attachment]:
    found = []
    for about in attached(message):
        number, size = identifier(about.get("id")), about.get("size")
        media_type = string(about.get("content_type")).lower().partition(";")[0].strip()
        if number is None:
            continue
        found.append(
            Attachment(
                ref=f"{message.get('channel_id')}/{message.get('id')}/{number}",
                name=_UNSAFE_IN_NAMES.sub("_", string(about.get("filename")))[:_LONGEST_NAME] or "file",
                media_type=media_type if _MEDIA_TYPE.fullmatch(media_type) else "application/octet-stream",
                size=size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**53 else None,
            )
        )
    return found


# --- outbound ----------------------------------------------------------------------------------------------------


def nonce(key: str) -> str:
    """Return the nonce of an outbox key: the same for ever, and as long as one may be."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:25]


def spoken(text: str, *, key: str, reply_to: str | None = None, buttons: Sequence[Button] = ()) -> Json:
    """Return the body of a request that creates a message."""
    body = edited(text, buttons) | {"nonce": nonce(key), "enforce_nonce": True}
    # What an agent writes is not to make Discord ask addresses for previews.
    body["flags"] = SUPPRESS_EMBEDS
    if reply_to is not None and identifier(reply_to):
        body["message_reference"] = {"message_id": reply_to, "fail_if_not_exists": False}
    return body


def edited(text: str, buttons: Sequence[Button] = ()) -> Json:
    """Return the body of a request that changes a message; buttons that it had before and that are not named are
    gone."""
    return {"content": shown(text), "allowed_mentions": NOBODY, "components": components(buttons)}


def components(buttons: Sequence[Button]) -> list[Json]:
    """Buttons in rows ("Component Reference"). What is pressed comes back by an id that outlives the bot."""
    made = [
        {
            "type": discord.ComponentType.button.value,
            "style": _STYLES[each.style],
            "label": clean(each.label)[:_LONGEST_LABEL],
            "custom_id": f"{PRESSED}{clean(each.key)}"[:LONGEST_KEY],
        }
        for each in buttons[: _BUTTONS_PER_ROW * _MOST_ROWS]
    ]
    rows = [made[first : first + _BUTTONS_PER_ROW] for first in range(0, len(made), _BUTTONS_PER_ROW)]
    return [{"type": discord.ComponentType.action_row.value, "components": row} for row in rows]


def uploaded(caption: str, name: str, *, key: str) -> Json:
    """Return the body of a request that creates a message with one file."""
    return captioned(caption, name) | {"nonce": nonce(key), "enforce_nonce": True}


def captioned(caption: str, name: str) -> Json:
    """Return what a message with one file says."""
    return edited(caption[:LONGEST]) | {"attachments": [{"id": 0, "filename": name}]}


def file_name(name: str) -> str:
    """Return a file's name as Discord keeps it, so that it is known again."""
    return _UNKEPT_IN_NAMES.sub("_", name)[-LONGEST_TITLE:].lstrip(".") or "file"


def shown(text: str) -> str:
    """Return the text as Discord has it; it refuses messages without any."""
    return clean(text).strip() or "\u200b"


def title(text: str) -> str:
    """Return the name of a thread."""
    return " ".join(clean(text).split())[:LONGEST_TITLE] or "agent"
