"""What there is on the fake Discord: accounts, one server, its channels and threads, and what was said in them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from tests.connectors.discord.fake_limits import Limits

Json: TypeAlias = dict[str, Any]

#: Milliseconds from 1970 to Discord's own epoch (API reference, "Snowflakes").
EPOCH = 1_420_070_400_000
EPHEMERAL, LOADING = 1 << 6, 1 << 7
#: Seconds for which a nonce is recognised; the documentation says "the past few minutes".
NONCES = 300.0

TEXT, DIRECT, VOICE, PUBLIC_THREAD, FORUM = 0, 1, 2, 11, 15

# Gateway documentation, "List of Intents".
GUILDS, MESSAGES, REACTIONS, DIRECTS, DIRECT_REACTIONS, CONTENT = 1, 1 << 9, 1 << 10, 1 << 12, 1 << 13, 1 << 15


@dataclass(kw_only=True)
class Account:
    """A person or a bot."""

    id: int
    name: str
    bot: bool = False
    roles: list[int] = field(default_factory=list)

    def json(self) -> Json:
        return {
            "id": str(self.id),
            "username": self.name,
            "discriminator": "0",
            "avatar": None,
            "bot": self.bot,
            "global_name": self.name.title(),
        }


@dataclass(kw_only=True)
class Place:
    """A channel, a thread, or a direct conversation."""

    id: int
    type: int
    name: str = ""
    parent: int | None = None
    category: int | None = None
    topic: str | None = None
    recipient: Account | None = None
    messages: dict[int, Json] = field(default_factory=dict)
    archived: bool = False
    locked: bool = False
    archived_at: float = field(default_factory=time.time)
    denied: set[str] = field(default_factory=set)
    """What the bot may not do here: ``view``, ``send``, ``threads``, ``react``, ``files``."""


@dataclass(kw_only=True)
class Session:
    """A session of the gateway, with what was dispatched in it."""

    id: str
    intents: int
    sequence: int = 0
    events: list[Json] = field(default_factory=list)
    outgoing: asyncio.Queue[Json | None] | None = None
    """The connection that it has just now; None puts an end to it."""


class World:
    """One server with one channel, one bot and one person, `ana`; more of each are made on demand."""

    def __init__(self) -> None:
        self._last = 0
        self.token = "t0ken"
        self.granted = True
        """Whether the portal grants the bot the message-content intent."""
        self.bot = Account(id=self.fresh(), name="muster", bot=True)
        self.ana = Account(id=self.fresh(), name="ana")
        self.accounts = {self.bot.id: self.bot, self.ana.id: self.ana}
        self.guild = self.fresh()
        self.inside = True
        """Whether the bot is in the server."""
        self.outage = False
        """Whether new sessions are told that the server has one."""
        self.away = False
        """Whether the server has an outage, so that nothing is heard of it."""
        self.permissions = (1 << 53) - 1 & ~8
        """What the bot's role may do, as bits; all but administrator."""
        self.places: dict[int, Place] = {}
        self.channel = self.add(Place(id=self.fresh(), type=TEXT, name="fleet"))
        self.sessions: dict[str, Session] = {}
        self.identifies = 0
        self.resumes = 0
        self.resume_at: str | None = None
        """Where sessions are said to be resumed, if not here."""
        self.fickle = False
        """Whether each session is ended and forgotten as soon as it is there."""
        self.starts_left = 1000
        """How many sessions the bot may still start today."""
        self.posts: list[Json] = []
        """Bodies of all requests that create messages, as they came."""
        self.loud: list[Json] = []
        """Bodies of requests that say something and may ping somebody by it."""
        self.wire: list[str] = []
        """All requests, as `POST /channels/1/messages`."""
        self.script: deque[str | None] = deque()
        """What the next requests that create a message meet: `lost`, `500`, `429`, `429 global`, `html 403` (from a
        proxy), or None."""
        self.largest_upload = 10 * 1_048_576
        """Bytes that a file may have."""
        self.retry_after = 0.05
        self.allowance = {"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4", "X-RateLimit-Reset-After": "1.0"}
        """The headers of answers that say how much of a rate limit is left."""
        self.limits = Limits()
        self.renames: list[tuple[int, str, float]] = []
        """Which thread got which name when, by a clock that nobody sets."""
        self.rename_window = 600.0
        """Seconds in which a thread is renamed twice at most."""
        self.on_arrival: Callable[[str], None] | None = None
        """Told of each request when it comes, before anything is done for it."""
        self.on_request: Callable[[str], None] | None = None
        """Told of each request that was taken, before it is answered."""
        self.endpoint: str | None = None
        """The address to which Discord sends interactions, instead of the gateway."""
        self.may_make_channels = True
        self.scoped = True
        """Whether the bot was invited with the scope `applications.commands`."""
        self.commands: list[Json] = []
        """The slash commands of the server, and those of direct conversations."""
        self.direct_commands: list[Json] = []
        self.callbacks: dict[str, Json] = {}
        self.interactions: dict[str, tuple[int, float]] = {}
        self.responses: dict[str, Json] = {}
        """The messages that answer interactions, as their first."""
        self.asides: dict[str, list[str]] = {}
        """What only the one who made an interaction sees of its answers."""
        self.aside_files: list[tuple[str, str, bytes]] = []
        """Interaction, name and content of the files among that."""
        self.expired: set[str] = set()
        """Interactions whose tokens are too old."""
        self.lose_callbacks = 0
        """So many acknowledgements are taken without an answer."""
        self.lose_edits = 0
        """So many answers by token are taken without an answer."""
        self.on_callback: Callable[[], Awaitable[None]] | None = None
        """Waited for before an acknowledgement is looked at."""
        self.files: dict[str, bytes] = {}
        self.typing: list[int] = []
        self._nonces: dict[str, tuple[float, Json]] = {}
        self._changed = asyncio.Event()

    # --- ids and waiting -----------------------------------------------------------------------------------------

    def fresh(self) -> int:
        """A new snowflake, above all others."""
        self._last = max(self._last + 1, int(time.time() * 1000) - EPOCH << 22)
        return self._last

    def notify(self) -> None:
        """Something is different now."""
        self._changed.set()

    async def changed(self, limit: float) -> None:
        """Wait until something changes here, or so many seconds have passed."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._changed.wait()

    async def until(self, true: Callable[[], Any], limit: float = 20.0) -> None:
        """Wait until something is so here."""
        async with asyncio.timeout(limit):
            while not true():
                await self.changed(0.1)

    # --- what people do ------------------------------------------------------------------------------------------

    def add(self, place: Place) -> Place:
        self.places[place.id] = place
        return place

    def person(self, name: str, *, roles: list[int] | None = None) -> Account:
        account = Account(id=self.fresh(), name=name, roles=roles or [])
        self.accounts[account.id] = account
        return account

    def member(self, person: Account) -> Json:
        """Somebody as a member of the server, without who they are."""
        return {
            "roles": [str(role) for role in person.roles],
            "joined_at": stamp(0),
            "deaf": False,
            "mute": False,
            "flags": 0,
        }

    def direct(self, person: Account) -> Place:
        """The direct conversation of the bot with somebody."""
        for place in self.places.values():
            if place.recipient is person:
                return place
        return self.add(Place(id=self.fresh(), type=DIRECT, recipient=person))

    def say(self, text: str, *, place: Place | None = None, by: Account | None = None, **more: Any) -> str:
        """Somebody writes. Returns the message's id."""
        place = place or self.channel
        return str(self.create(place, by or self.ana, {"content": text, **more})["id"])

    def upload(self, name: str, media_type: str, content: bytes, *, place: Place | None = None) -> Json:
        """An attachment to go with `say(..., attachments=[...])`."""
        number = self.fresh()
        path = f"/attachments/{(place or self.channel).id}/{number}/{name}"
        self.files[path] = content
        return {"id": str(number), "filename": name, "content_type": media_type, "size": len(content), "url": path}

    def edit(self, message: str, text: str) -> None:
        found, place = self.message(message)
        found |= {"content": text, "edited_timestamp": stamp(time.time())}
        self.dispatch("MESSAGE_UPDATE", self._told(found, place), self._intent(place, MESSAGES, DIRECTS))

    def delete(self, message: str) -> None:
        found, place = self.message(message)
        del place.messages[int(message)]
        data = {"id": found["id"], "channel_id": str(place.id)} | self._guild_of(place)
        self.dispatch("MESSAGE_DELETE", data, self._intent(place, MESSAGES, DIRECTS))

    def delete_thread(self, thread: Place) -> None:
        """A moderator deletes a thread, with all that was said in it."""
        del self.places[thread.id]
        data = {"id": str(thread.id), "guild_id": str(self.guild), "parent_id": str(thread.parent), "type": thread.type}
        self.dispatch("THREAD_DELETE", data, GUILDS)

    def purge(self, messages: list[str]) -> None:
        """A moderator deletes several messages of one place at once."""
        found, place = self.message(messages[0])
        for each in messages:
            del place.messages[int(each)]
        data = {"ids": messages, "channel_id": found["channel_id"]} | self._guild_of(place)
        self.dispatch("MESSAGE_DELETE_BULK", data, self._intent(place, MESSAGES, DIRECTS))

    def forward(self, text: str, attachments: list[Json], *, place: Place | None = None) -> str:
        """Somebody forwards what was said elsewhere: the message itself says nothing ("Message Snapshot Object")."""
        snapshot = {"type": 0, "content": text, "attachments": attachments, "embeds": [], "timestamp": stamp(0)}
        snapshot |= {"edited_timestamp": None, "flags": 0, "mentions": [], "mention_roles": [], "components": []}
        elsewhere = {"type": 1, "message_id": str(self.fresh()), "channel_id": str(self.fresh())}
        body = {"message_reference": elsewhere, "message_snapshots": [{"message": snapshot}]}
        return str(self.create(place or self.channel, self.ana, body)["id"])

    def react(self, message: str, emoji: str, *, by: Account | None = None) -> None:
        who = by or self.ana
        found, place = self.message(message)
        found["_reactions"].setdefault(emoji, []).append(who.id)
        data = {
            "user_id": str(who.id),
            "channel_id": str(place.id),
            "message_id": message,
            "emoji": {"id": None, "name": emoji},
            "burst": False,
            "type": 0,
        } | self._guild_of(place)
        if place.recipient is None:
            data["member"] = self.member(who) | {"user": who.json()}
        self.dispatch("MESSAGE_REACTION_ADD", data, self._intent(place, REACTIONS, DIRECT_REACTIONS))

    def click(self, message: str, custom_id: str, *, by: Account | None = None) -> str:
        """Somebody clicks a button. Returns the interaction's id."""
        found, place = self.message(message)
        data = {"component_type": 2, "custom_id": custom_id}
        return self._interact(3, data, place, by or self.ana, message=self._told(found, place))

    def invoke(
        self,
        name: str,
        options: list[Json] | None = None,
        *,
        place: Place | None = None,
        by: Account | None = None,
        kind: int = 2,
    ) -> str:
        """Somebody gives a slash command, or with kind 4 types at one. Returns the interaction's id."""
        data = {"id": str(self.fresh()), "name": name, "type": 1, "options": options or []}
        return self._interact(kind, data, place or self.channel, by or self.ana)

    def repeat(self, event: str) -> None:
        """The last event of that name is told once more, as it may be after a resume."""
        for session in self.sessions.values():
            told = [each for each in session.events if each["t"] == event][-1]
            if session.outgoing is not None:
                session.outgoing.put_nowait(told)

    # --- what happens to the bot ---------------------------------------------------------------------------------

    def pass_minutes(self, minutes: int) -> None:
        """What is made from now on is so much younger."""
        self._last = self.fresh() + (minutes * 60_000 << 22)

    def vanish(self) -> None:
        """The server has an outage: what people say in it reaches no bot."""
        self.dispatch("GUILD_DELETE", {"id": str(self.guild), "unavailable": True}, GUILDS)
        self.away = True

    def return_from_outage(self) -> None:
        self.away = False
        self.dispatch("GUILD_CREATE", self.guild_json(), GUILDS)

    def drop(self, *, code: int = 4000) -> None:
        """Every connection to the gateway ends, with a close code."""
        for session in self.sessions.values():
            if session.outgoing is not None:
                session.outgoing.put_nowait({"close": code})

    def freeze(self) -> None:
        """Every connection stays, and nothing comes over it any more, no heartbeat's acknowledgement either."""
        for session in self.sessions.values():
            if session.outgoing is not None:
                session.outgoing.put_nowait({"freeze": True})

    def ask_to_reconnect(self) -> None:
        """Opcode 7."""
        for session in self.sessions.values():
            if session.outgoing is not None:
                session.outgoing.put_nowait({"op": 7, "d": None})

    def forget_sessions(self) -> None:
        """No session can be resumed any more; those that are connected are told so (opcode 9)."""
        for session in self.sessions.values():
            if session.outgoing is not None:
                session.outgoing.put_nowait({"op": 9, "d": False})
        self.sessions.clear()

    def revoke_token(self) -> None:
        """The token is regenerated in the portal: connections end, nothing is answered any more."""
        self.token = "another"
        self.drop(code=4004)

    def forget_nonces(self) -> None:
        """As after a few minutes."""
        self._nonces.clear()

    # --- what is seen --------------------------------------------------------------------------------------------

    def message(self, message: str) -> tuple[Json, Place]:
        for place in self.places.values():
            if (found := place.messages.get(int(message))) is not None:
                return found, place
        raise KeyError(message)

    def said(self, place: Place | None = None) -> list[Json]:
        """The bot's messages in a place, oldest first."""
        return [each for each in (place or self.channel).messages.values() if each["author"]["id"] == str(self.bot.id)]

    def texts(self, place: Place | None = None) -> list[str]:
        return [each["content"] for each in self.said(place)]

    def buttons(self, message: str) -> dict[str, str]:
        """The buttons under a message: their labels and ids."""
        found, _ = self.message(message)
        return {each["label"]: each["custom_id"] for row in found["components"] for each in row["components"]}

    def reactions(self, message: str) -> list[str]:
        """The bot's reactions to a message."""
        found, _ = self.message(message)
        return [emoji for emoji, people in found["_reactions"].items() if self.bot.id in people]

    def threads(self) -> list[Place]:
        return [place for place in self.places.values() if place.type == PUBLIC_THREAD]

    # --- inside --------------------------------------------------------------------------------------------------

    def create(self, place: Place, author: Account, body: Json) -> Json:
        """A message comes into being, or the one that has its nonce already is given back."""
        nonce = body.get("nonce")
        if author.bot and nonce is not None and body.get("enforce_nonce"):
            known = self._nonces.get(str(nonce))
            if known is not None and time.time() - known[0] < NONCES:
                return known[1]
        if place.archived:
            place.archived = False
            self.dispatch("THREAD_UPDATE", self.place_json(place), GUILDS)
        reply = body.get("message_reference")
        message: Json = {
            "id": str(self.fresh()),
            "channel_id": str(place.id),
            "author": author.json(),
            "content": body.get("content") or "",
            "timestamp": stamp(time.time()),
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [self.bot.json()] if f"<@{self.bot.id}>" in (body.get("content") or "") else [],
            "mention_roles": [],
            "attachments": body.get("attachments") or [],
            "embeds": [],
            "pinned": False,
            "type": 19 if reply else 0,
            "components": body.get("components") or [],
            "flags": body.get("flags", 0),
            "_reactions": {},
        }
        if reply:
            message["message_reference"] = {"message_id": reply["message_id"], "channel_id": str(place.id)}
        if "message_snapshots" in body:
            message |= {"type": 0, "message_snapshots": body["message_snapshots"], "message_reference": reply}
        place.messages[int(message["id"])] = message
        if place.archived:
            # Whoever says something gets it back (documentation, "Threads", Archived).
            place.archived = False
            self.dispatch("THREAD_UPDATE", self.place_json(place), GUILDS)
        told = self._told(message, place)
        if nonce is not None:
            told["nonce"] = nonce
            if author.bot:
                self._nonces[str(nonce)] = (time.time(), message)
        self.dispatch("MESSAGE_CREATE", told, self._intent(place, MESSAGES, DIRECTS))
        self.notify()
        return message

    def respond(
        self, number: str, answer: Json, *, follows: bool = False, files: Sequence[tuple[str, str, bytes]] = ()
    ) -> Json:
        """The message that an answer to an interaction makes: a placeholder, or words."""
        place, said = self.places[self.interactions[number][0]], answer.get("data") or {}
        if said.get("flags", 0) & EPHEMERAL:
            self.asides.setdefault(number, []).append(said.get("content", ""))
            self.aside_files += [(number, name, raw) for name, _, raw in files]
            self.notify()
            return {"id": str(self.fresh()), "_reactions": {}}
        body = {"flags": LOADING} if answer["type"] == 5 else said
        message = self.create(place, self.bot, body)
        message["interaction_metadata"] = {"id": number}
        if not follows:
            self.responses[number] = message
        return message

    def change(self, message: Json, body: Json) -> None:
        """A placeholder becomes words, or words others."""
        message |= {key: body[key] for key in ("content", "components") if key in body}
        message["flags"] = message["flags"] & ~LOADING | body.get("flags", 0)
        message["_edits"] = [*message.get("_edits", []), body]
        self.notify()

    def open_thread(self, place: Place, message: int, name: str) -> Place:
        """A thread from a message: it has the message's id (documentation, "Start Thread from Message")."""
        thread = self.add(Place(id=message, type=PUBLIC_THREAD, name=name, parent=place.id))
        if message in place.messages:
            place.messages[message]["flags"] |= 1 << 5
        self.dispatch("THREAD_CREATE", self.place_json(thread) | {"newly_created": True}, GUILDS)
        return thread

    def rename(self, place: Place, name: str) -> None:
        """Somebody gives a thread another name."""
        place.name = name
        self.dispatch("THREAD_UPDATE", self.place_json(place), GUILDS)

    def place_json(self, place: Place) -> Json:
        last = max(place.messages, default=None)
        found: Json = {
            "id": str(place.id),
            "type": place.type,
            "last_message_id": None if last is None else str(last),
            "flags": 0,
        }
        if place.recipient is not None:
            return found | {"recipients": [place.recipient.json()]}
        found |= {"guild_id": str(self.guild), "name": place.name}
        if place.type in (TEXT, FORUM):
            bits = {"view": 1 << 10, "send": 1 << 11, "react": 1 << 6, "threads": 1 << 35, "files": 1 << 15}
            deny = sum(bits[each] for each in place.denied)
            overwrite = {"id": str(self.guild), "type": 0, "allow": "0", "deny": str(deny)}
            return (
                found
                | {"position": 0, "permission_overwrites": [overwrite], "nsfw": False}
                | {
                    "parent_id": None if place.category is None else str(place.category),
                    "topic": place.topic,
                }
            )
        if place.type == VOICE:
            return found | {
                "position": 1,
                "permission_overwrites": [],
                "parent_id": None,
                "bitrate": 64000,
                "user_limit": 0,
            }
        return found | {
            "parent_id": str(place.parent),
            "owner_id": str(self.bot.id),
            "message_count": len(place.messages),
            "member_count": 1,
            "thread_metadata": {
                "archived": place.archived,
                "locked": place.locked,
                "auto_archive_duration": 10080,
                "archive_timestamp": stamp(place.archived_at),
            },
        }

    def guild_json(self) -> Json:
        bot = {"user": self.bot.json(), "roles": [], "joined_at": stamp(0), "deaf": False, "mute": False, "flags": 0}
        role = {
            "id": str(self.guild),
            "name": "@everyone",
            "permissions": str(self.permissions),
            "position": 0,
            "color": 0,
            "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
            "hoist": False,
            "managed": False,
            "mentionable": False,
            "flags": 0,
        }
        return {
            "id": str(self.guild),
            "name": "the server",
            "owner_id": str(self.ana.id),
            "roles": [role],
            "member_count": len(self.accounts),
            "members": [bot],
            "channels": [self.place_json(each) for each in self.places.values() if each.type in (TEXT, VOICE, FORUM)],
            "threads": [self.place_json(each) for each in self.threads() if not each.archived],
        }

    def dispatch(self, event: str, data: Json, intent: int) -> None:
        """Tell every session that asked for such events (Gateway documentation, "Gateway Intents")."""
        if self.away and "guild_id" in data:
            return
        for session in self.sessions.values():
            if intent and not session.intents & intent:
                continue
            session.sequence += 1
            payload = {"op": 0, "t": event, "s": session.sequence, "d": self._withheld(event, data, session)}
            session.events.append(payload)
            if session.outgoing is not None:
                session.outgoing.put_nowait(payload)
        self.notify()

    def _withheld(self, event: str, data: Json, session: Session) -> Json:
        if event not in ("MESSAGE_CREATE", "MESSAGE_UPDATE") or session.intents & CONTENT:
            return data
        ours = data["author"]["id"] == str(self.bot.id) or bool(data["mentions"])
        return data if ours or "guild_id" not in data else data | {"content": "", "attachments": [], "components": []}

    def _told(self, message: Json, place: Place) -> Json:
        found = public(message) | self._guild_of(place)
        if place.recipient is None:
            author = self.accounts[int(message["author"]["id"])]
            found["member"] = self.member(author)
        return found

    def _guild_of(self, place: Place) -> Json:
        return {} if place.recipient is not None else {"guild_id": str(self.guild)}

    @staticmethod
    def _intent(place: Place, inside: int, direct: int) -> int:
        return direct if place.recipient is not None else inside

    def _interact(self, kind: int, data: Json, place: Place, by: Account, **more: Any) -> str:
        number = str(self.fresh())
        self.interactions[number] = (place.id, time.monotonic())
        member = self.member(by) | {"user": by.json(), "permissions": "0"}
        event = {
            "id": number,
            "application_id": str(self.bot.id),
            "type": kind,
            "data": data,
            "channel_id": str(place.id),
            "channel": self.place_json(place),
            "token": f"token-{number}",
            "version": 1,
            "attachment_size_limit": 10 << 20,
            "authorizing_integration_owners": {"0": str(self.guild)},
            "context": 0 if place.recipient is None else 1,
            "entitlements": [],
            "locale": "en-GB",
            "app_permissions": str(self.permissions),
        }
        event |= {"user": by.json()} if place.recipient is not None else {"member": member}
        self.dispatch("INTERACTION_CREATE", event | self._guild_of(place) | more, 0)
        return number


def public(message: Json) -> Json:
    """A message as it is shown: with counts of reactions, and without its nonce."""
    found = {key: value for key, value in message.items() if not key.startswith("_")}
    if message["_reactions"]:
        found["reactions"] = [
            {"emoji": {"id": None, "name": emoji}, "count": len(people), "me": False}
            for emoji, people in message["_reactions"].items()
        ]
    return found


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
