"""The terminal as a chat system: named conversations that clients attach to.

A client is the prompt of ``muster up`` in the same process, or ``muster chat`` behind the gateway's socket. What is
said goes to all that are attached and into a transcript, so that a send is recognised when it comes again and a client
that attaches later sees what it missed. Whoever can attach owns the socket, and is the person who runs Muster.
"""

from __future__ import annotations

import asyncio
import getpass
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from connectors.contract.agent_count_feed import AgentCounts, Headcount
from connectors.contract.connector_protocol import MessageRefused, NotReady, Sink, TryLater
from connectors.contract.messages import (
    Attachment,
    Batch,
    Capabilities,
    Emphasis,
    File,
    Health,
    Inbound,
    InboundBody,
    Message,
    OpenThread,
    Outbound,
    Priority,
    React,
    Reaction,
    Replace,
    Retitle,
    Sent,
    Text,
)
from connectors.terminal.settings import TerminalSettings
from connectors.terminal.transcript_file import RoomTranscript, TranscriptLine
from connectors.terminal.untrusted_text import plain
from core.errors import MusterError

#: The main room.
MAIN = "fleet"
#: Characters that one input may have.
LONGEST_INPUT = 1_000_000
#: Lines that wait for a client before it counts as gone.
MOST_WAITING = 5_000
#: Lines that a client sees when it attaches, even when someone has seen them.
LOOK_BACK = 10

_EVENT_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class TerminalConnector:
    """The hub between Muster and the terminals that are attached."""

    kind = "terminal"
    SettingsModel: type[BaseModel] = TerminalSettings
    capabilities = Capabilities(
        threads=True,
        edits=True,
        reactions=True,
        files=True,
        pictures=False,
        typing=True,
        max_text=20_000,
        remembers_keys=30 * 86_400.0,
    )

    def __init__(
        self,
        name: str,
        settings: BaseModel,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
        headcount: Headcount | None = None,
    ) -> None:
        """Create a connector without clients.

        Args:
            name: the connection's name in ``muster.yaml``.
            settings: how clients tell that something waits; other settings than these mean the defaults.
            folder: where the transcript is.
            clock: seconds since the epoch.
            headcount: how many agents are at what, which clients are told; None: they are not told.
        """
        self.name = name
        self._attention = settings.attention if isinstance(settings, TerminalSettings) else "bell"
        self._headcount = headcount
        self.user = getpass.getuser()
        self._clock = clock
        self._transcript = RoomTranscript(folder)
        self._sink: Sink | None = None
        self._sessions: set[TerminalSession] = set()
        self._writing = asyncio.Lock()

    # --- the connector's contract -------------------------------------------------------------------------------

    def subscribe(self, sink: Sink) -> None:
        self._sink = sink

    async def start(self, cursor: str | None) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        for session in tuple(self._sessions):
            session.end()

    async def send(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent:
        async with self._writing:
            known = self._known(outbound.key)
            if known is not None:
                return known
            line = self._line(outbound, conversation, target)
            if isinstance(outbound.content, Replace) and self._is_old_news(outbound.content, line):
                return Sent(event_id=outbound.key)
            await self._write(line)
            return Sent(event_id=line.id, conversation=line.opens)

    async def find(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent | None:
        return self._known(outbound.key)

    def scope(self) -> str:
        return self._transcript.name

    async def download(self, attachment: Attachment, *, limit: int) -> bytes:
        raise MessageRefused("A terminal message has no attachments. Name the file's path in your message instead.")

    async def connected(self) -> None:
        """Always: what no one reads now is in the transcript."""

    async def typing(self, conversation: str, *, active: bool) -> None:
        self._show(TranscriptLine(kind="typing", id="", conversation=conversation, at=self._clock(), active=active))

    async def health(self) -> Health:
        count = len(self._sessions)
        attached = f"{count} terminal{'' if count == 1 else 's'} attached" if count else "no terminal attached"
        return Health(
            kind=self.kind,
            reachable=True,
            authenticated=True,
            last_seen=self._clock(),
            detail=f"{attached}; `muster chat` attaches one.",
        )

    @property
    def last(self) -> int:
        """The sequence number of the newest line."""
        return self._transcript.last

    # --- what clients do ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def attached(self, after: int | None = None) -> AsyncIterator[TerminalSession]:
        """Attach a client for the time of the block.

        Args:
            after: the sequence number of the last line that it has seen; None: what no one has seen yet, and a few
                lines before that.
        """
        session = TerminalSession(self, after=self._transcript.lines[-1].seq if self._transcript.lines else 0)
        self._sessions.add(session)
        try:
            for line in self._missed(after):
                session.put(line)
            with self._counted(session):
                yield session
        finally:
            self._sessions.discard(session)
            session.end()

    @contextmanager
    def _counted(self, session: TerminalSession) -> Iterator[None]:
        """Tell a client how many agents are at what, now and whenever that changes."""

        def tell(counts: AgentCounts) -> None:
            session.put(
                TranscriptLine(
                    kind="fleet",
                    id="",
                    conversation="",
                    at=self._clock(),
                    text=str(counts),
                    waiting=counts.waiting,
                    attention=self._attention,
                )
            )

        if self._headcount is None:
            yield
            return
        with self._headcount.watched(tell):
            if self._headcount.counts is not None:
                tell(self._headcount.counts)
            yield

    async def hear_room(self, room: str) -> None:
        """There is one room, which is always heard."""
        if room != MAIN:
            raise MessageRefused(f"{self.name} has one room, {self.name}:{MAIN}. Take that, or no room.")

    def conversations(self) -> list[str]:
        """Return all conversations, the main room first."""
        return [MAIN, *(opens for opens in self._transcript.keys.values() if opens is not None)]

    async def receive(self, body: InboundBody, *, conversation: str, event_id: str) -> None:
        """Take what a person did, and return when it is durable.

        Raises:
            NotReady: Muster is not up yet, or goes down.
        """
        if self._sink is None:
            raise NotReady("Muster is still starting. Say it again in a moment.")
        inbound = Inbound(
            connector=self.name,
            event_id=event_id,
            conversation=conversation,
            parent=None if conversation == MAIN else MAIN,
            sender=self.user,
            sent_at=self._clock(),
            body=body,
        )
        await self._sink(Batch(events=(inbound,), cursor=None))
        if isinstance(body, Text) and self._transcript.find(event_id) is None:
            line = TranscriptLine(
                kind="input",
                id=event_id,
                conversation=conversation,
                at=self._clock(),
                author=self.user,
                text=plain(body.text),
            )
            async with self._writing:
                try:
                    await self._write(line)
                except TryLater:
                    self._show(line)  # it is in the inbox, which is what counts

    def describe(self, event_id: str) -> TranscriptLine | None:
        """Return the message that a reaction or an edit is about."""
        return self._transcript.find(event_id)

    # --- inside -------------------------------------------------------------------------------------------------

    def _known(self, key: str) -> Sent | None:
        if key not in self._transcript.keys:
            return None
        return Sent(event_id=key, conversation=self._transcript.keys[key])

    def _is_old_news(self, content: Replace, line: TranscriptLine) -> bool:
        shown = self._transcript.find(str(line.target))
        return shown is not None and shown.text == line.text and shown.final == line.final and not content.final

    def _line(self, outbound: Outbound, conversation: str, target: str | None) -> TranscriptLine:
        content = outbound.content
        common: dict[str, Any] = {"id": outbound.key, "conversation": conversation, "at": self._clock()}
        match content:
            case Message(text=text, emphasis=emphasis, byline=byline):
                return TranscriptLine(
                    kind="message",
                    author=byline or "",
                    text=plain(text),
                    aside=emphasis is Emphasis.NOTICE,
                    final=outbound.priority is not Priority.PROGRESS,
                    **common,
                )
            case OpenThread(title=title, message=message):
                return TranscriptLine(
                    kind="thread", text=plain(message.text), opens=self._new_conversation(title), aside=True, **common
                )
            case Replace(target=key, message=message, final=final):
                return TranscriptLine(
                    kind="edit",
                    author=message.byline or "",
                    text=plain(message.text),
                    target=target or key,
                    final=final,
                    aside=message.emphasis is Emphasis.NOTICE,
                    **common,
                )
            case React(target=key, key=mark):
                return TranscriptLine(kind="reaction", text=plain(mark)[:40], target=target or key, **common)
            case File(path=path, name=name, caption=caption):
                return TranscriptLine(kind="file", text=plain(f"{caption}\n[{name}: {path}]"), aside=True, **common)
            case Retitle():
                raise MessageRefused("threads in a terminal have no names that could be changed.")

    def _new_conversation(self, title: str) -> str:
        word = re.sub(r"[^\w.-]+", "-", title.strip())[:60].strip("-") or "thread"
        taken = set(self.conversations())
        name, count = f"{MAIN}/{word}", 1
        while name in taken:
            count += 1
            name = f"{MAIN}/{word}-{count}"
        return name

    async def _write(self, line: TranscriptLine) -> None:
        adding = asyncio.ensure_future(asyncio.to_thread(self._transcript.add, line))
        try:
            line = await asyncio.shield(adding)
        except asyncio.CancelledError:
            # The next write begins only when this one has ended.
            await asyncio.wait([adding])
            raise
        except OSError as error:
            raise TryLater(f"The terminal's transcript cannot be written: {error.strerror}.") from error
        self._show(line)

    def _show(self, line: TranscriptLine) -> None:
        for session in tuple(self._sessions):
            session.show(line)
        if line.seq and self._sessions:
            self._transcript.mark_shown(line.seq)

    def _missed(self, after: int | None) -> list[TranscriptLine]:
        transcript = self._transcript
        if after is None:
            missed = transcript.after(0)
            unseen = sum(1 for line in missed if line.seq > transcript.shown)
            missed = missed[-max(unseen, LOOK_BACK) :]
        else:
            missed = transcript.after(after if after <= transcript.last else 0)
        if missed:
            transcript.mark_shown(transcript.last)
        return missed


class TerminalSession:
    """One attached client: iterate over it to get the lines to show; it ends when the client is detached."""

    def __init__(self, connector: TerminalConnector, *, after: int = 0) -> None:
        """`after`: up to which line of the transcript it has them already."""
        self._connector = connector
        self._after = after
        self._lines: asyncio.Queue[TranscriptLine | None] = asyncio.Queue()
        self._ended = False

    @property
    def user(self) -> str:
        """Who is at the terminal."""
        return self._connector.user

    def show(self, line: TranscriptLine) -> None:
        """Show a line that was just written, unless it was in the transcript when the client attached."""
        if not line.seq or line.seq > self._after:
            self.put(line)

    def put(self, line: TranscriptLine) -> None:
        """Show a line. A client that takes none for too long is detached: it can attach again after its last one."""
        if self._ended:
            return
        if self._lines.qsize() >= MOST_WAITING:
            self.end()
        else:
            self._lines.put_nowait(line)

    def end(self) -> None:
        """Detach. What waits is still handed out."""
        if not self._ended:
            self._ended = True
            self._lines.put_nowait(None)

    def __aiter__(self) -> TerminalSession:
        return self

    async def __anext__(self) -> TranscriptLine:
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)
            raise StopAsyncIteration
        return line

    def conversations(self) -> list[str]:
        """Return all conversations, the main room first."""
        return self._connector.conversations()

    async def say(self, text: str, *, conversation: str = MAIN, event_id: str | None = None) -> str:
        """Say something, and return its event id when it is durable.

        Args:
            text: what was typed.
            conversation: where.
            event_id: an id of the client's own, under which it may say it again without it counting twice.

        Raises:
            MessageRefused: it is empty or too long, or there is no such conversation.
            NotReady: Muster cannot take it now.
        """
        if not text.strip():
            raise MessageRefused("There is nothing to say in an empty message.")
        if len(text) > LONGEST_INPUT:
            raise MessageRefused(
                f"The message has {len(text)} characters; at most {LONGEST_INPUT} are taken. Use a file."
            )
        self._check(conversation)
        event_id = self._event_id(event_id)
        await self._connector.receive(Text(text=text), conversation=conversation, event_id=event_id)
        return event_id

    async def react(self, target: str, key: str, *, event_id: str | None = None) -> str:
        """React to a message, and return the reaction's event id when it is durable.

        Raises:
            MessageRefused: there is no such message.
            NotReady: Muster cannot take it now.
        """
        message = self._connector.describe(target)
        if message is None or not 0 < len(key) <= 40:
            raise MessageRefused("There is no such message to react to.")
        event_id = self._event_id(event_id)
        conversation = message.conversation
        await self._connector.receive(Reaction(target=target, key=key), conversation=conversation, event_id=event_id)
        return event_id

    async def receive(self, request: Any) -> dict[str, Any]:
        """Do what a client asks by a JSON object, and answer with one. Bad requests are answered, not raised."""
        if not isinstance(request, dict):
            return {"type": "refused", "reason": "Wanted is a JSON object."}
        event_id = request.get("id")
        echo = {"id": event_id} if isinstance(event_id, str) else {}
        try:
            match request:
                case {"type": "say", "text": str(text)}:
                    conversation = request.get("conversation", MAIN)
                    if not isinstance(conversation, str):
                        raise MessageRefused("The conversation is a text.")
                    return {
                        "type": "accepted",
                        "id": await self.say(text, conversation=conversation, event_id=echo.get("id")),
                    }
                case {"type": "react", "target": str(target), "key": str(key)}:
                    return {"type": "accepted", "id": await self.react(target, key, event_id=echo.get("id"))}
                case {"type": "conversations"}:
                    return {"type": "conversations", "conversations": self.conversations()}
        except NotReady as error:
            return {"type": "refused", **echo, "reason": str(error), "again": True}
        except MusterError as error:
            return {"type": "refused", **echo, "reason": str(error)}
        reason = "Expected: say with text, react with target and key, or conversations."
        return {"type": "refused", **echo, "reason": reason}

    def _check(self, conversation: str) -> None:
        known = self.conversations()
        if conversation not in known:
            shown = ", ".join(known[:20])
            raise MessageRefused(f"There is no conversation {plain(conversation)[:60]!r}. There are {shown}.")

    def _event_id(self, wanted: str | None) -> str:
        if wanted is None:
            return f"said-{uuid.uuid4().hex}"
        if not _EVENT_ID.fullmatch(wanted):
            raise MessageRefused("The id of a message has 1 to 100 letters, digits and signs of _ . : -.")
        # An id of a client's never meets the key of something that Muster said.
        return wanted if wanted.startswith("said-") else f"said-{wanted}"
