"""A chat system that lives in memory, for tests of what is built on connectors. It can do all that the contract offers.

    server = MemoryServer()
    connector = MemoryConnector(server=server)
    ...                                          # give the connector to Delivery, or to an orchestrator
    question = server.post("!ps", sender="@ana")
    await server.until(lambda: server.texts("room"))

The server outlives its connectors, so restarts can be tested. It recognises keys that were sent before, per scope, as a
Matrix homeserver recognises transaction ids per device, until it is told to forget them. Faults are ordered beforehand:
errors, lost answers, hanging conversations, a rate limit, an outage.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from connectors.contract.connector_protocol import MessageRefused, NotReady, Sink, TryLater
from connectors.contract.messages import (
    Attachment,
    Batch,
    Capabilities,
    Edit,
    File,
    Health,
    Inbound,
    InboundBody,
    Message,
    OpenThread,
    Outbound,
    OutboundContent,
    React,
    Reaction,
    Redaction,
    Remark,
    Replace,
    Retitle,
    Sent,
    Text,
)
from core.async_waits import set_within

#: Memory's default: everything but buttons and titles, and keys are remembered for a day, as Synapse does.
ALL_CAPABILITIES = Capabilities(
    threads=True, edits=True, reactions=True, taps=True, files=True, typing=True, html=True, remembers_keys=86_400.0
)

_BATCH = 100
#: Seconds after which `MemoryServer.until` asks again although nothing changed.
_ASK_AGAIN = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentChange:
    """New content for something that was said."""

    key: str
    event_id: str
    message: Message


@dataclass(kw_only=True, slots=True)
class Said:
    """One message, reaction or file of the bot, as it stands now."""

    event_id: str
    key: str
    conversation: str
    content: OutboundContent
    target: str | None = None
    changes: list[ContentChange] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What a person reads."""
        if self.changes:
            return self.changes[-1].message.text
        match self.content:
            case Message(text=text) | OpenThread(message=Message(text=text)) | Replace(message=Message(text=text)):
                return text
            case File(caption=caption):
                return caption
            case React(key=key):
                return key
            case Retitle(title=title):
                return title


class MemoryServer:
    """The chat system: what people write, what the bot said, and which faults are to come."""

    def __init__(
        self, *, capabilities: Capabilities = ALL_CAPABILITIES, clock: Callable[[], float] = time.time
    ) -> None:
        self.capabilities = capabilities
        self.clock = clock
        self.scope = "device-1"
        self.said: list[Said] = []
        """All that the bot said, in the order in which it arrived; changes are kept with what they changed."""
        self.wire: list[str] = []
        """The key of every request to send, also of those that failed."""
        self.typing_in: set[str] = set()
        self.down = False
        """While True, nothing gets through in either direction."""
        self.made: dict[str, tuple[str, ...]] = {}
        """The rooms that the bot made, each with those whom it invited."""
        self.closed: set[str] = set()
        """The rooms into which the bot may not come."""
        self.heard: list[str] = []
        """The rooms that it was told to hear while it ran."""
        self.groups: dict[str, tuple[str, ...]] = {}
        """What people belong to."""
        self._log: list[Inbound] = []
        self._known: dict[tuple[str, str], Sent] = {}
        self._script: deque[Exception | None] = deque()
        self._lost_answers = 0
        self._hanging: dict[str, asyncio.Event] = {}
        self._limit: tuple[float, float] | None = None
        self._level = 0.0
        self._level_at = 0.0
        self.titles: dict[str, Retitle] = {}
        """What the threads are called that were renamed."""
        self._parents: dict[str, str] = {}
        self._files: dict[str, bytes] = {}
        self._count = 0
        self._watching: list[asyncio.Event] = []

    # --- what people do ----------------------------------------------------------------------------------------

    def post(
        self,
        text: str,
        *,
        sender: str = "@ana",
        conversation: str = "room",
        parent: str | None = None,
        attachments: tuple[Attachment, ...] = (),
        mentions_us: bool = False,
    ) -> str:
        """Return a person writes. Returns the event id."""
        body = Text(text=text, attachments=attachments, mentions_us=mentions_us)
        return self._happen(body, sender, conversation, parent)

    def react(self, target: str, key: str, *, sender: str = "@ana", conversation: str = "room") -> str:
        """Return a person reacts to an event. Returns the event id."""
        return self._happen(Reaction(target=target, key=key), sender, conversation, None)

    def press(self, target: str, key: str, *, sender: str = "@ana", conversation: str = "room") -> str:
        """Return a person presses a button under a message of the bot. Returns the event id."""
        return self._happen(Reaction(target=target, key=key, pressed=True), sender, conversation, None)

    def redact(self, target: str, *, sender: str = "@ana", conversation: str = "room") -> str:
        """A person takes a message back. Returns the event id."""
        return self._happen(Redaction(target=target), sender, conversation, None)

    def edit(self, target: str, text: str, *, sender: str = "@ana", conversation: str = "room") -> str:
        """Return a person changes a message. Returns the event id."""
        return self._happen(Edit(target=target, text=text), sender, conversation, None)

    def remark(self, text: str, *, sender: str = "@ana", conversation: str = "room") -> str:
        """The connector itself has something to say. Returns the event id."""
        return self._happen(Remark(text=text), sender, conversation, None)

    def upload(self, content: bytes, *, name: str, media_type: str) -> Attachment:
        """A file to go with a post."""
        ref = f"memory://{self._next_id()}"
        self._files[ref] = content
        return Attachment(ref=ref, name=name, media_type=media_type, size=len(content))

    # --- what people see ---------------------------------------------------------------------------------------

    def messages(self, conversation: str = "room") -> list[Said]:
        """Return the bot's messages and files in a conversation, reactions left out."""
        return [said for said in self.said if said.conversation == conversation and not isinstance(said.content, React)]

    def texts(self, conversation: str = "room") -> list[str]:
        """Return what the bot's messages read now."""
        return [said.text for said in self.messages(conversation)]

    def reactions(self, target: str) -> list[str]:
        """Return the bot's reactions to an event."""
        return [said.text for said in self.said if isinstance(said.content, React) and said.target == target]

    def find(self, key: str) -> Said | None:
        """Return what was said under a key."""
        return next((said for said in self.said if said.key == key), None)

    async def until(self, condition: Callable[[], Any], *, limit: float = 10.0) -> None:
        """Wait until `condition` holds. It is asked again whenever something changes here, and ten times a second.

        Raises:
            TimeoutError: it did not hold within `limit` seconds.
        """
        changed = self.watch()
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    changed.clear()
                    await set_within(changed, _ASK_AGAIN)
        finally:
            self.unwatch(changed)

    # --- faults ------------------------------------------------------------------------------------------------

    def script(self, *outcomes: Exception | None) -> None:
        """What the next requests to send meet: an error to be raised, or None for no fault."""
        self._script.extend(outcomes)

    def lose_answers(self, count: int = 1) -> None:
        """The next `count` messages are taken, but the bot is told to try later."""
        self._lost_answers = count

    def hang(self, conversation: str) -> None:
        """Requests to send to this conversation get no answer until `release`."""
        self._hanging[conversation] = asyncio.Event()

    def release(self, conversation: str) -> None:
        """End what `hang` began."""
        self._hanging.pop(conversation).set()

    def limit_rate(self, rate: float, burst: int) -> None:
        """Refuse what goes beyond, as Synapse does: a bucket that leaks at `rate` a second."""
        self._limit = (rate, float(burst))
        self._level, self._level_at = 0.0, self.clock()

    def forget_keys(self) -> None:
        """Recognise no key that was sent before."""
        self._known.clear()

    def set_down(self, value: bool) -> None:
        """Begin or end an outage."""
        self.down = value
        self._notify()

    # --- what a connector asks ---------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """The place behind the last event."""
        return len(self._log)

    def since(self, place: int) -> list[Inbound]:
        """Events from a place on."""
        return self._log[place : place + _BATCH]

    async def take(self, outbound: Outbound, *, conversation: str, target: str | None, scope: str) -> Sent:
        """Return a request to send."""
        self.wire.append(outbound.key)
        self._notify()
        if (hanging := self._hanging.get(conversation)) is not None:
            await hanging.wait()
        if self.down:
            raise TryLater("the memory server is down")
        if self._script and (error := self._script.popleft()) is not None:
            raise error
        known = self._known.get((scope, outbound.key))
        if known is None:
            self._check_rate()
            known = self._stand(outbound, conversation, target)
            self._known[scope, outbound.key] = known
            self._notify()
        if self._lost_answers:
            self._lost_answers -= 1
            raise TryLater("the answer was lost")
        return known

    def look(self, key: str, conversation: str) -> Sent | None:
        """Return whether something is under a key, however long ago it was said."""
        if self.down:
            raise TryLater("the memory server is down")
        for said in self.said:
            if said.key == key and said.conversation == conversation:
                return Sent(event_id=said.event_id, conversation=_made(said.content, said.event_id))
            for change in said.changes:
                if change.key == key and said.conversation == conversation:
                    return Sent(event_id=change.event_id)
        return None

    def content(self, ref: str) -> bytes | None:
        """Return the bytes of an upload."""
        return self._files.get(ref)

    def watch(self) -> asyncio.Event:
        """Return an event that is set whenever something happens, until `unwatch`."""
        changed = asyncio.Event()
        self._watching.append(changed)
        return changed

    def unwatch(self, changed: asyncio.Event) -> None:
        """End what `watch` began."""
        self._watching.remove(changed)

    # --- inside ------------------------------------------------------------------------------------------------

    def _happen(self, body: InboundBody, sender: str, conversation: str, parent: str | None) -> str:
        event_id = self._next_id()
        if isinstance(body, Text):
            self._wake(conversation)
        self._log.append(
            Inbound(
                connector="memory",
                event_id=event_id,
                conversation=conversation,
                parent=parent or self._parents.get(conversation),
                sender=sender,
                sent_at=self.clock(),
                body=body,
                groups=self.groups.get(sender, ()),
            )
        )
        self._notify()
        return event_id

    def _stand(self, outbound: Outbound, conversation: str, target: str | None) -> Sent:
        event_id = self._next_id()
        content = outbound.content
        if not isinstance(content, Retitle):
            self._wake(conversation)
        if isinstance(content, Replace):
            changed = next((said for said in self.said if said.event_id == target), None)
            if changed is None:
                raise MessageRefused(f"there is no message {target} to be changed")
            changed.changes.append(ContentChange(key=outbound.key, event_id=event_id, message=content.message))
        elif isinstance(content, Retitle):
            self.titles[conversation] = content
        else:
            self.said.append(
                Said(event_id=event_id, key=outbound.key, conversation=conversation, content=content, target=target)
            )
        made = _made(content, event_id)
        if made is not None:
            self._parents[made] = conversation
        return Sent(event_id=event_id, conversation=made)

    def _wake(self, conversation: str) -> None:
        """Whoever says something gets a thread back that was put away."""
        if (title := self.titles.get(conversation)) is not None:
            self.titles[conversation] = replace(title, archived=False)

    def _check_rate(self) -> None:
        if self._limit is None:
            return
        rate, burst = self._limit
        now = self.clock()
        self._level = max(0.0, self._level - rate * (now - self._level_at))
        self._level_at = now
        if self._level + 1 > burst:
            raise TryLater("too many requests", after=(self._level + 1 - burst) / rate, limited=True)
        self._level += 1

    def _next_id(self) -> str:
        self._count += 1
        return f"${self._count}"

    def _notify(self) -> None:
        for changed in self._watching:
            changed.set()


class MemoryConnector:
    """A connection to a `MemoryServer`; without one it gets a server of its own."""

    kind = "memory"

    def __init__(
        self,
        name: str = "memory",
        settings: object = None,
        folder: Path | None = None,
        *,
        server: MemoryServer | None = None,
    ) -> None:
        self.name = name
        self.server = server or MemoryServer()
        self.capabilities = self.server.capabilities
        self._sink: Sink | None = None
        self._started = False
        self._last_seen: float | None = None

    def subscribe(self, sink: Sink) -> None:
        self._sink = sink

    async def start(self, cursor: str | None) -> None:
        assert self._sink is not None, "subscribe comes before start"
        changed = self.server.watch()
        try:
            self._check()
            self.capabilities = self.server.capabilities
            self._started = True
            place = self.server.end if cursor is None else int(cursor)
            if cursor is None:
                await self._sink(Batch(events=(), cursor=str(place)))
            while True:
                changed.clear()
                self._check()
                events = self.server.since(place)
                if events:
                    place += len(events)
                    named = tuple(replace(event, connector=self.name) for event in events)
                    await self._sink(Batch(events=named, cursor=str(place)))
                else:
                    await changed.wait()
        finally:
            self._started = False
            self.server.unwatch(changed)

    async def stop(self) -> None:
        self._started = False

    async def send(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent:
        sent = await self.server.take(outbound, conversation=conversation, target=target, scope=self.scope())
        self._last_seen = self.server.clock()
        return sent

    async def find(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent | None:
        return self.server.look(outbound.key, conversation)

    async def make_room(
        self, name: str, *, key: str, beside: str | None, people: Sequence[str], owners: Sequence[str]
    ) -> str:
        if self.server.down:
            raise TryLater("the memory server is down", away=True)
        room = f"{name}-{key}"
        self.server.made[room] = tuple(people)
        return room

    async def hear_room(self, room: str) -> None:
        if self.server.down:
            raise TryLater("the memory server is down", away=True)
        if room in self.server.closed:
            raise MessageRefused(f"the bot is not in {room}. Invite it.")
        self.server.heard.append(room)

    def scope(self) -> str:
        return self.server.scope

    async def download(self, attachment: Attachment, *, limit: int) -> bytes:
        if self.server.down:
            raise TryLater("the memory server is down", away=True)
        content = self.server.content(attachment.ref)
        if content is None:
            raise MessageRefused(f"{attachment.name} is gone")
        if len(content) > limit:
            raise MessageRefused(f"{attachment.name} has {len(content)} bytes, and at most {limit} are taken")
        return content

    async def connected(self) -> None:
        """Always."""

    async def typing(self, conversation: str, *, active: bool) -> None:
        if active:
            self.server.typing_in.add(conversation)
        else:
            self.server.typing_in.discard(conversation)

    async def health(self) -> Health:
        return Health(
            kind=self.kind,
            reachable=self._started and not self.server.down,
            authenticated=True,
            last_seen=self._last_seen,
            detail="In memory." if self._started else "Not started.",
        )

    def _check(self) -> None:
        if self.server.down:
            raise NotReady("the memory server is down")
        self._last_seen = self.server.clock()


def _made(content: OutboundContent, event_id: str) -> str | None:
    return f"thread {event_id}" if isinstance(content, OpenThread) else None
