"""Receiving: what the gateway says, and what it left out, from the history.

The gateway repeats what was missed only while it remembers the session. After that, and after every start, each
conversation is read from where it was read last. The cursor moves only behind what the sink has made durable.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog

from connectors.contract.connector_protocol import NotReady, Sink
from connectors.contract.messages import Batch, Inbound
from connectors.discord import message_conversion, pending_direct_messages
from connectors.discord.json_values import Json, identifier, json_object
from connectors.discord.member_roles import Roles
from connectors.discord.pending_direct_messages import PendingDirectMessages, PendingMessage
from connectors.discord.read_cursor import ReadCursor
from connectors.discord.rest_client import DiscordClient, DiscordRefusal, DiscordRequestError
from connectors.discord.sent_log import SentLog
from connectors.discord.thread_cache import ThreadCache

PAGE = 100
"""Messages or threads to a page of the history."""
_AT_ONCE = 100
"""Events that are made durable together."""

MOST_WAITING = 20_000
"""Events that wait in memory to be dealt with. What is more is read from the history."""

_log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class DiscordReceiver:
    """Hands what people do in our channel, in its threads and in direct conversations to the sink."""

    wire: DiscordClient
    connector: str
    guild: str
    places: ThreadCache
    record: SentLog
    sink: Sink
    position: ReadCursor | None
    """None before the first start ever."""
    arrived: Callable[[str], Awaitable[None]]
    """Told of each event that is in the inbox, by its id."""
    may_read: Callable[[str, Sequence[str]], Awaitable[bool]] | None = None
    """Whether somebody in these groups has a permission; None where nobody knows."""
    me: str = ""
    caught_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether the server is there, and all is read that was said before."""
    clock: Callable[[], float] = time.time
    roles: Roles = field(init=False)
    pending: PendingDirectMessages = field(init=False)
    _looked: set[str] = field(default_factory=set)
    """Threads of which it is known since the session began what was said in them before."""
    _overrun: bool = False
    """Whether something was heard that did not fit."""
    _heard: deque[tuple[str, Json | Inbound]] = field(default_factory=deque)
    _early: deque[tuple[str, Json | Inbound]] = field(default_factory=deque)
    """What was heard in this session before the gap in front of it was read."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.roles = Roles(guild=self.guild, ask=self._read)
        self.pending = PendingDirectMessages(roles=self.roles, known=self._news.set)

    def hear(self, event: str, data: Json) -> None:
        """An event of the gateway. It is dealt with later, in its turn."""
        if len(self._heard) + len(self._early) + len(self.pending) >= MOST_WAITING:
            self._overrun = True
            return
        if event == "MESSAGE_DELETE_BULK":
            ids = data.get("ids")
            for each in ids if isinstance(ids, list) else ():
                self._heard.append(("MESSAGE_DELETE", data | {"id": each}))
        else:
            self._heard.append((event, data))
        self._news.set()

    def take(self, found: Inbound) -> None:
        """Something that is for the inbox, in its turn."""
        self._heard.append(("", found))
        self._news.set()

    async def run(self) -> None:
        """Deal with what is heard, until cancelled.

        Raises:
            NotReady: the history cannot be read now, or more was heard than fits.
        """
        while True:
            await self._deal()

    async def _deal(self) -> None:
        """Make durable what can be made so together, or wait until there is something."""
        self._listened()
        self._news.clear()
        said: list[Inbound] = []
        reached = self.position
        while (self._heard or self.pending.answered) and len(said) < _AT_ONCE:
            if self.pending.answered:
                assert reached is not None, "nothing is said in private before the first start"
                for each in self.pending.take():
                    said.append(each.found)
                    reached = await self._after(reached, each)
                continue
            event, data = self._heard[0]
            if event in ("READY", "GUILD_CREATE") and said:
                break  # what was heard before that is made durable before the gap is read
            self._heard.popleft()
            if not isinstance(data, Inbound) and await self._state(event, data):
                reached = reached if said else self.position
            elif not self.caught_up.is_set() or reached is None:
                self._early.append((event, data))
            elif not isinstance(data, Inbound) and event == "MESSAGE_CREATE" and await self._unread(data):
                self._heard.appendleft((event, data))
                if said:
                    break  # as above
                self._looked.add(str(data["channel_id"]))
                await self._missed(str(data["channel_id"]))
                reached = self.position
            else:
                found = data if isinstance(data, Inbound) else await self._event(event, data)
                if found is not None and (known := await self._with_groups(event, data, found)) is not None:
                    said.append(known.found)
                    reached = await self._after(reached, known)
        if said and reached is not None:
            reached = reached.settled()
            await self.sink(Batch(events=tuple(said), cursor=reached.encode()))
            self.position = reached
            for inbound in said:
                await self.arrived(inbound.event_id)
        elif not self._heard:
            await self._news.wait()

    def _listened(self) -> None:
        if self._overrun:
            raise NotReady("More was said on Discord than could be taken in time. It is read from the history.")

    # --- what the server is like ---------------------------------------------------------------------------------

    async def _state(self, event: str, data: Json) -> bool:
        """Deal with news of the server itself. False: it is something else."""
        match event:
            case "READY":
                self._looked.clear()
                self.me = str(data["user"]["id"])
                self.places.forget_names()
                self.caught_up.clear()
                guilds = [str(each.get("id")) for each in data.get("guilds", [])]
                if self.guild not in guilds:
                    self._outside()
            case "GUILD_CREATE" if data.get("id") == self.guild and not data.get("unavailable"):
                self.places.forget_note("server")
                await self._catch_up(data)
                self.caught_up.set()
                self._heard.extendleft(reversed(self._early))
                self._early.clear()
            case "GUILD_CREATE" | "GUILD_DELETE" if data.get("id") == self.guild:
                if data.get("unavailable"):
                    outage = f"The server {self.guild} has an outage at Discord; what is said there is read afterwards."
                    self.places.note("server", outage)
                else:
                    self._outside()
            case "THREAD_CREATE" | "THREAD_UPDATE":
                self._stands(data)
                if data.get("newly_created"):
                    self._looked.add(str(data.get("id")))
            case "THREAD_DELETE":
                number = identifier(data.get("id"))
                if number is not None and data.get("parent_id") in self.places.channels:
                    self.places.stands(number, identifier(data.get("parent_id")))
                    self.places.is_gone(number)
            case "THREAD_LIST_SYNC":
                for thread in data.get("threads", []):
                    self._stands(thread)
            case _:
                return False
        return True

    def _outside(self) -> None:
        self.places.note(
            "server",
            f"The bot is not in the server {self.guild}: invite it, with the scopes bot and applications.commands, by "
            "the address that the developer portal makes (your application, OAuth2).",
        )

    def _stands(self, thread: Json) -> None:
        number, parent = identifier(thread.get("id")), identifier(thread.get("parent_id"))
        if number is not None:
            self.places.stands(number, parent)
            archived = json_object(thread.get("thread_metadata")).get("archived")
            self.places.heard_name(number, thread.get("name"), archived)

    # --- gaps ----------------------------------------------------------------------------------------------------

    async def _catch_up(self, guild: Json) -> None:
        """Read what was said while no one listened."""
        heard = self.places.channels
        channels = [each for each in guild.get("channels", []) if each.get("id") in heard]
        threads = [each for each in guild.get("threads", []) if each.get("parent_id") in heard]
        for thread in threads:
            self._stands(thread)
            self._looked.add(str(thread.get("id")))
        if self.position is None:
            # Nothing that was said before the first start counts. Where the channel cannot be seen, it says nothing.
            floor = self._now()
            if channels:
                floor = max(int(self.guild), *(_last(each) or int(each["id"]) for each in (*channels, *threads)))
                floor = max(floor, *(_last(each) for each in await self._archived(ReadCursor(floor=floor))), 0)
            self.position = ReadCursor(floor=floor, channel=self.places.channel, others=self._others())
            await self.sink(Batch(events=(), cursor=self.position.encode()))
            return
        moved = self.position.channel not in (None, self.places.channel)
        if not moved:
            archived = await self._archived(self.position)
            new = set(self._others()) - set(self.position.others)
            for place in (*channels, *threads, *archived):
                if {place["id"], place.get("parent_id")} & new:
                    # What was said in a channel before it was the fleet's was said to others.
                    self.position = self.position.read(place["id"], max(_last(place), self._now()))
                elif _last(place) > self.position.of(place["id"]):
                    await self._missed(place["id"])
        for direct in tuple(self.position.direct):
            await self._missed(direct)
        if moved:
            # What was said in the new channel before it was the fleet's was said to others.
            floor = max(self.position.floor, self._now())
            self.position = replace(self.position, floor=floor)
        if (self.position.channel, self.position.others) != (self.places.channel, self._others()):
            self.position = replace(self.position, channel=self.places.channel, others=self._others())
            await self.sink(Batch(events=(), cursor=self.position.encode()))

    def _others(self) -> tuple[str, ...]:
        return tuple(sorted(self.places.channels - {self.places.channel}))

    async def hear_too(self, channel: str) -> None:
        """Hear what is said in another channel from now on."""
        if channel in self.places.channels:
            return
        self.places.channels.add(channel)
        if self.position is not None:
            self.position = replace(self.position.read(channel, self._now()), others=self._others())
            await self.sink(Batch(events=(), cursor=self.position.encode()))

    def _now(self) -> int:
        """Above the ids of all that was said so far. By Discord's clock: if ours is ahead, nothing is left out."""
        return message_conversion.first_of((self.wire.its_time or self.clock()) + 1.0)

    async def _archived(self, position: ReadCursor) -> list[Json]:
        """Threads in which something was said before they were archived, all that while no one listened."""
        each = [await self._archived_in(channel, position) for channel in sorted(self.places.channels)]
        return [thread for threads in each for thread in threads]

    async def _archived_in(self, channel: str, position: ReadCursor) -> list[Json]:
        found: list[Json] = []
        before: str | None = None
        while True:
            query = {"limit": str(PAGE)} | ({"before": before} if before else {})
            try:
                answer = await self._read(f"/channels/{channel}/threads/archived/public", query)
            except DiscordRefusal:
                return found
            page = [each for each in answer.get("threads", []) if isinstance(each.get("thread_metadata"), dict)]
            for thread in page:
                self._stands(thread)
                self._looked.add(str(thread.get("id")))
            found += [each for each in page if _last(each) > position.floor]
            if not answer.get("has_more") or not page:
                return found
            before = page[-1]["thread_metadata"]["archive_timestamp"]
            if datetime.fromisoformat(str(before)).timestamp() < message_conversion.sent_at(position.floor):
                return found

    async def _missed(self, conversation: str) -> None:
        count = 0
        while True:
            assert self.position is not None, "a gap has a beginning"
            query = {"after": str(self.position.of(conversation)), "limit": str(PAGE)}
            try:
                page = await self._read(f"/channels/{conversation}/messages", query)
            except DiscordRefusal as error:
                if error.forbidden:
                    self.places.note(
                        f"gap {conversation}",
                        f"What was said in {conversation} while the bot was away cannot be read: {error}. Give the bot "
                        "Read Message History.",
                        mild=True,
                    )
                return
            self.places.forget_note(f"gap {conversation}")
            messages = sorted(
                (each for each in page if identifier(each.get("id"))),
                key=lambda each: int(each["id"]),
            )
            if not messages:
                break
            said = [
                replace(found, groups=await self.roles.of(found.sender, each))
                for each in messages
                if (found := self._written(each | {"channel_id": conversation}))
            ]
            reached = self.position.read(conversation, int(messages[-1]["id"]))
            if reached is self.position:
                break  # nothing that comes after what was asked for
            await self.sink(Batch(events=tuple(said), cursor=reached.encode()))
            self.position = reached
            self._listened()
            count += len(said)
            if len(messages) < PAGE:
                break
        if count:
            _log.info("discord_gap", connector=self.connector, conversation=conversation, events=count)

    async def _read(self, path: str, query: dict[str, str] | None = None) -> Any:
        """Ask, and again where Discord wants us to wait.

        Raises:
            DiscordRefusal: the answer is no, and stays so.
            NotReady: there is no answer.
        """
        while True:
            try:
                return await self.wire.call("GET", path, query=query)
            except DiscordRefusal as error:
                if error.status != 429:
                    if error.passes:
                        raise NotReady(f"Discord cannot say what was missed: {error}.") from error
                    raise
                await asyncio.sleep(error.after or 1.0)
            except DiscordRequestError as error:
                raise NotReady(f"Discord cannot be reached: {error}.") from error

    # --- what people do ------------------------------------------------------------------------------------------

    async def _event(self, event: str, data: Json) -> Inbound | None:
        if event not in _EVENTS:
            return None
        channel = identifier(data.get("channel_id"))
        if channel is None or not await self._is_ours(channel, data):
            return None
        parent = self.places.parent(channel)
        match event:
            case "MESSAGE_CREATE":
                await self._remember_own(data)
                self.places.spoken_in(channel)
                return self._written(data)
            case "MESSAGE_UPDATE":
                return message_conversion.changed(data, connector=self.connector, me=self.me, parent=parent)
            case "MESSAGE_DELETE":
                if (author := self.places.author(str(data.get("id")))) is None:
                    return None
                return message_conversion.deleted(data, author, connector=self.connector, parent=parent)
        target = str(data.get("message_id"))
        # The message from which a thread was made is in the channel, and is the thread's beginning.
        if self.places.parent(target) == channel:
            channel, parent = target, channel
        return message_conversion.reacted(
            data, connector=self.connector, me=self.me, conversation=channel, parent=parent
        )

    async def _with_groups(self, event: str, data: Json | Inbound, found: Inbound) -> PendingMessage | None:
        """With the groups of who did it; None: it waits until they are known, since it was not told with it."""
        done = PendingMessage(found=found, event=event)
        if self.places.is_ours(found.conversation):
            if isinstance(data, Inbound):
                return done
            # To take back what one said, what was heard of one's roles at any time will do.
            groups = self.roles.known(found.sender, old=True) if event == "MESSAGE_DELETE" else None
            if groups is None:
                groups = await self.roles.of(found.sender, data)
            return replace(done, found=replace(found, groups=groups))
        held = self.pending.holds(found.conversation)
        groups = None if held else self.roles.known(found.sender)
        if groups is None and not held:
            # What is said of someone goes before what is said of their roles, so that those do not matter.
            named = self.may_read is not None and await self.may_read(found.sender, ())
            groups = () if named or len(self.pending) >= pending_direct_messages.MOST else None
        if groups is None:
            self.pending.put(done)
            return None
        return replace(done, found=replace(found, groups=groups))

    async def _after(self, position: ReadCursor, done: PendingMessage) -> ReadCursor:
        """Return how far was read once this is dealt with."""
        found = done.found
        said = done.event == "MESSAGE_CREATE"
        if not self.places.is_ours(found.conversation):
            # Strangers may be without number, and what they say while no one listens is nothing to the fleet.
            counts = self.may_read is None or await self.may_read(found.sender, found.groups)
            if not counts or done.event not in ("", "MESSAGE_CREATE"):
                return position
            position = position.knows(found.conversation, int(found.event_id))
        return position.read(found.conversation, int(found.event_id)) if said else position

    async def _unread(self, message: Json) -> bool:
        """Return whether it came in a thread in which more may have been said before: one that was archived as the
        session began, and woke before it was asked which ones are."""
        channel = identifier(message.get("channel_id"))
        if channel is None or "guild_id" not in message or channel in self.places.channels or channel in self._looked:
            return False
        return await self._is_ours(channel, message)

    async def _is_ours(self, channel: str, data: Json) -> bool:
        if "guild_id" not in data:
            return True  # a direct conversation
        if data["guild_id"] != self.guild:
            return False
        if not self.places.knows(channel):
            try:
                self._stands(await self._read(f"/channels/{channel}"))
            except DiscordRefusal:
                self.places.stands(channel, None)
        return self.places.is_ours(channel)

    async def _remember_own(self, message: Json) -> None:
        author, nonce = json_object(message.get("author")).get("id"), message.get("nonce")
        number = identifier(message.get("id"))
        if author == self.me and isinstance(nonce, str) and number is not None:
            await self.record.put(nonce, number)

    def _written(self, message: Json) -> Inbound | None:
        parent = self.places.parent(str(message.get("channel_id")))
        found = message_conversion.written(message, connector=self.connector, me=self.me, parent=parent)
        if found is not None:
            self.places.saw(found.event_id, found.sender)
        return found


_EVENTS = frozenset({"MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "MESSAGE_REACTION_ADD"})


def _last(place: Json) -> int:
    """Return the last message of a channel or a thread, which may be deleted now; 0 where there is none."""
    return int(identifier(place.get("last_message_id")) or 0)
