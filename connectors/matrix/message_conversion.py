"""Between Matrix events and messages: pure functions.

A conversation is a room, ``!room:server``, or a thread in it, ``!room:server|$root``. What comes in was written by
anybody: any field may be of any type and any length, and nothing here raises because of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from connectors.contract.messages import (
    Attachment,
    Edit,
    Emphasis,
    Inbound,
    InboundBody,
    Message,
    Reaction,
    Redaction,
    Text,
)
from connectors.matrix.encrypted_files import FileSecrets, objection

Json: TypeAlias = dict[str, Any]

#: In every event of ours: the key of what it says, by which it is found again.
KEY = "fleet.muster.key"

#: Bytes of content that surely fit into an event, which must stay under 65,536 with all that the server adds
#: (Client-Server API, "Size limits").
CONTENT_LIMIT = 60_000

#: The same where it is encrypted, which makes four thirds of it.
SEALED_LIMIT = 44_000

_HTML = "org.matrix.custom.html"
_LONGEST_ID = 255
_LONGEST_NAME = 200
_LONGEST_REACTION = 200
_WORDS = frozenset({"m.text", "m.emote"})
_FILES = frozenset({"m.image", "m.file", "m.audio", "m.video"})
_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_MXC = re.compile(r"mxc://([^/\s]{1,255})/([A-Za-z0-9_-]{1,255})")
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}")
_REPLY_QUOTE = re.compile(r"(?:> <@[^\n]*|> \* <@[^\n]*)(?:\n>[^\n]*)*\n+")
_EVERYBODY = re.compile(r"@(?=room\b)", re.IGNORECASE)
_UNSAFE_IN_NAMES = re.compile(r"[\x00-\x1f\x7f/\\]")


# --- conversations -----------------------------------------------------------------------------------------------


def thread(room: str, root: str) -> str:
    """Return the conversation of the thread below the event `root`."""
    return f"{room}|{root}"


def place(conversation: str) -> tuple[str, str | None]:
    """Return the room, and the root event if it is a thread."""
    room, _, root = conversation.partition("|")
    return room, root or None


def conversation_of(event: Json, room: str) -> str:
    """Return where an event stands of which only what it relates to is known."""
    root = _related(_object(event.get("content")), "m.thread")
    return room if root is None else thread(room, root)


# --- inbound -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Me:
    """Who the bot is, to itself and to others."""

    user: str
    display_name: str | None = None

    @property
    def localpart(self) -> str:
        """``muster`` of ``@muster:example.org``."""
        return self.user[1:].partition(":")[0]


def inbound(event: Json, *, connector: str, room: str, me: Me, place_of: Callable[[str], str | None]) -> Inbound | None:
    """Return what an event of a room's timeline says; None when it is nothing that a person said to us.

    Args:
        event: as the homeserver gave it.
        connector: the connector's name.
        room: the room.
        me: own events are nothing, and mentions of us are found by our names.
        place_of: the conversation of an event that was seen lately; reactions do not say theirs.
    """
    event_id, sender = _id(event.get("event_id")), _id(event.get("sender"))
    if event_id is None or sender is None or sender == me.user or "state_key" in event:
        return None
    if not sender.startswith("@"):
        # No person: groups have names without (`Inbound.groups`).
        return None
    content = _object(event.get("content"))
    body: InboundBody | None
    conversation = room
    match event.get("type"):
        case "m.room.message":
            edit = _edit(content)
            root = _related(content, "m.thread")
            body = edit or _text(content, me)
            if edit is not None:
                conversation = place_of(edit.target) or room
            elif root is not None:
                conversation = thread(room, root)
        case "m.reaction":
            target, key = _related(content, "m.annotation"), _string(_relation(content).get("key"))
            body = Reaction(target=target, key=key) if target and 0 < len(key) <= _LONGEST_REACTION else None
            conversation = (target and place_of(target)) or room
        case "m.room.redaction":
            # The target moved into the content with room version 11.
            target = _id(event.get("redacts")) or _id(content.get("redacts"))
            body = Redaction(target=target) if target else None
            conversation = (target and place_of(target)) or room
        case _:
            body = None
    if body is None:
        return None
    return Inbound(
        connector=connector,
        event_id=event_id,
        conversation=conversation,
        parent=room if conversation != room else None,
        sender=sender,
        sent_at=sent_at(event),
        body=body,
    )


def sent_at(event: Json) -> float:
    """Return when the author's homeserver says that it was sent; 0 when it says nonsense."""
    stamp = event.get("origin_server_ts")
    return stamp / 1000 if isinstance(stamp, int) and 0 <= stamp < 10**14 else 0.0


def _edit(content: Json) -> Edit | None:
    target = _related(content, "m.replace")
    if target is None:
        return None
    fresh = _object(content.get("m.new_content"))
    return Edit(target=target, text=_string(fresh.get("body")) or _string(content.get("body")).removeprefix("* "))


def _text(content: Json, me: Me) -> Text | None:
    kind = _string(content.get("msgtype"))
    attachments: tuple[Attachment, ...] = ()
    if kind in _WORDS:
        text = _string(content.get("body"))
    elif kind in _FILES:
        text, attachments = _attached(content)
    else:
        return None
    if _object(_relation(content).get("m.in_reply_to")):
        text = _REPLY_QUOTE.sub("", text, count=1) if _REPLY_QUOTE.match(text) else text
    text, mentioned = without_mention(text, me, named=_names_us(content, me))
    return Text(text=text, attachments=attachments, mentions_us=mentioned)


def _attached(content: Json) -> tuple[str, tuple[Attachment, ...]]:
    body, name = _string(content.get("body")), _string(content.get("filename"))
    caption = body if name and body != name else ""
    about = _object(content.get("info"))
    media_type = _string(about.get("mimetype")).lower()
    size = about.get("size")
    # What opens an encrypted file is behind its address; addresses have nothing there.
    reference = _string(content.get("url"))
    reference = "" if "#" in reference else reference
    if content.get("file") is not None:
        sealed = _object(content.get("file"))
        found = FileSecrets.from_json(sealed)
        reference = "" if found is None else found.beside(_string(sealed.get("url")))
    if media(reference) is None:
        return caption or body, ()
    attachment = Attachment(
        ref=reference,
        name=_UNSAFE_IN_NAMES.sub("_", name or body)[:_LONGEST_NAME] or "file",
        media_type=media_type if _MEDIA_TYPE.fullmatch(media_type) else "application/octet-stream",
        size=size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**53 else None,
    )
    return caption, (attachment,)


def unsealed_file(content: Json) -> str | None:
    """Return why the file of a message that came encrypted is not taken: that the message is its sender's says nothing
    of a file that everybody at the homeserver can put something else in place of. None: it is, or there is no file."""
    if _string(content.get("msgtype")) not in _FILES:
        return None
    if content.get("file") is not None:
        return objection(content["file"])
    return None if content.get("url") is None else "its file is not encrypted, so anybody may have put it there"


def media(reference: str) -> tuple[str, str] | None:
    """Return the server and the id in an ``mxc://`` address, of which a reference to an encrypted file is the
    beginning."""
    found = _MXC.fullmatch(reference.partition("#")[0])
    return (found[1], found[2]) if found and (FileSecrets.of(reference) or "#" not in reference) else None


def _names_us(content: Json, me: Me) -> bool:
    users = _object(content.get("m.mentions")).get("user_ids")
    return isinstance(users, list) and me.user in users


def without_mention(text: str, me: Me, *, named: bool) -> tuple[str, bool]:
    """Return the text without our name at its beginning, and whether we are mentioned.

    `named` says that the sender's client says so (`m.mentions`). Without that, a mere word that happens to be our name
    is no mention unless a colon or comma follows it; our user id always is.
    """
    names = [name for name in (me.user, me.display_name, f"@{me.localpart}", me.localpart) if name]
    for name in names:
        if text[: len(name)].casefold() != name.casefold():
            continue
        rest = text[len(name) :]
        ending = re.match(r"\s*[:,]\s*|\s+|$", rest)
        if ending is None:
            continue
        if named or name == me.user or ending[0].strip():
            return rest[ending.end() :], True
    return text, named


def _relation(content: Json) -> Json:
    return _object(content.get("m.relates_to"))


def _related(content: Json, kind: str) -> str | None:
    relation = _relation(content)
    return _id(relation.get("event_id")) if relation.get("rel_type") == kind else None


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _string(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _id(value: object) -> str | None:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ID or "|" in value:
        return None
    return value if clean(value) == value else None


def clean(text: str) -> str:
    """Text that every database and every encoder takes: no NUL, no halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


# --- outbound ----------------------------------------------------------------------------------------------------


def spoken(
    message: Message, *, key: str, root: str | None = None, latest: str | None = None, limit: int = CONTENT_LIMIT
) -> Json:
    """Return the content of a message, in the thread below `root` if that is given.

    `latest` is the newest event of the thread that is known: clients without threads show the message as an answer to
    it (Client-Server API, "Threading"). What does not fit into `limit` bytes goes out without its HTML.
    """
    content = _fit(_words(message) | {KEY: key}, limit)
    relation = _placing(root, latest, message.reply_to)
    return content | ({"m.relates_to": relation} if relation else {})


def replacement(message: Message, *, key: str, target: str, limit: int = CONTENT_LIMIT) -> Json:
    """Return the content of an edit. An edit cannot move its message to another thread, so it names none."""
    relation = {"m.relates_to": {"rel_type": "m.replace", "event_id": target}, KEY: key, "m.mentions": {}}
    fresh = _fit(_words(message), limit)
    shown = dict(fresh)
    shown["body"] = f"* {fresh['body']}"
    if "formatted_body" in fresh:
        shown["formatted_body"] = f"* {fresh['formatted_body']}"
    content = shown | {"m.new_content": fresh} | relation
    if size(content) > limit:
        # What clients without edits show is repeated above; the beginning has to do.
        shown = {"msgtype": fresh["msgtype"], "body": f"* {fresh['body'][:200]} ..."}
        content = shown | {"m.new_content": fresh} | relation
    return content


def reaction(key: str, *, outbox_key: str, target: str) -> Json:
    """Return the content of a reaction."""
    return {"m.relates_to": {"rel_type": "m.annotation", "event_id": target, "key": clean(key)}, KEY: outbox_key}


def uploaded(
    *,
    address: str,
    name: str,
    media_type: str,
    length: int,
    caption: str,
    key: str,
    root: str | None = None,
    latest: str | None = None,
    secrets: FileSecrets | None = None,
) -> Json:
    """Return the content of a message with a file that lies in the media repository; `secrets` open one that is
    encrypted."""
    content: Json = {
        "msgtype": "m.image" if media_type in _PICTURES else "m.file",
        "body": _harmless(caption) or name,
        "filename": name,
        "info": {"mimetype": media_type, "size": length},
        "m.mentions": {},
        KEY: key,
    }
    content |= {"url": address} if secrets is None else {"file": secrets.as_json(address)}
    relation = _placing(root, latest, None)
    return content | ({"m.relates_to": relation} if relation else {})


def sealed_key(key: str) -> str:
    """Return what is in the clear of an encrypted event of ours, so that it is found again: no word of the key."""
    return "x" + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def size(content: Json) -> int:
    """Return bytes on the wire, at most."""
    return len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def transaction(key: str) -> str:
    """Return the transaction id of an outbox key: the same for ever, and safe in a path."""
    if re.fullmatch(r"[A-Za-z0-9._~-]{1,120}", key):
        return key
    return sealed_key(key)


def _words(message: Message) -> Json:
    content: Json = {
        "msgtype": "m.notice" if message.emphasis is Emphasis.NOTICE else "m.text",
        "body": _harmless(message.text),
        "m.mentions": {},
    }
    if message.html is not None:
        content |= {"format": _HTML, "formatted_body": _harmless(message.html)}
    return content


def _harmless(text: str) -> str:
    # An empty m.mentions notifies no one; old clients go by the words, and a word joiner between them is not seen.
    return _EVERYBODY.sub("@\u2060", clean(text))


def _fit(content: Json, limit: int) -> Json:
    if size(content) <= limit:
        return content
    return {key: value for key, value in content.items() if key not in ("format", "formatted_body")}


def _placing(root: str | None, latest: str | None, reply_to: str | None) -> Json:
    if root is None:
        return {"m.in_reply_to": {"event_id": reply_to}} if reply_to else {}
    return {
        "rel_type": "m.thread",
        "event_id": root,
        "is_falling_back": reply_to is None,
        "m.in_reply_to": {"event_id": reply_to or latest or root},
    }
