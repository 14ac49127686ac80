"""`muster chat` and the tmux pane of a chat room (`bot.interfaces.cli.tmux_room_pane`): clients of a local Muster.

After a restart of Muster, the client reconnects and continues after the last line that it showed. It sends unanswered
messages again under their original ids, so that each counts once. With a store for input
(`connectors.terminal.pending_input`), the prompt does not wait for Muster, and messages survive the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from aiohttp import (
    ClientError,
    ClientSession,
    ClientWebSocketResponse,
    UnixConnector,
    WSMsgType,
    WSServerHandshakeError,
)

from bot.config.paths import Paths
from bot.text.errors import NotRunning
from connectors.terminal.pending_input import Typed, Unsaid
from connectors.terminal.transcript_file import TranscriptLine
from core import unix_sockets
from core.errors import MusterError

#: Seconds to retry a lost connection.
RETRY_FOR = 60.0
_PAUSE = 0.3
_LONGEST_PAUSE = 3.0
#: Seconds until a message that Muster could not accept yet is sent again.
SAY_AGAIN_S = 1.0
#: Seconds of silence after which everything from piped input counts as answered.
QUIET = 3.0
_LONGEST_LINE = 16 * 1_048_576


class NotSaid(MusterError):
    """Muster did not accept the message."""


class NoSuchConnector(NotSaid):
    """Muster runs, but has no such connector."""


async def chat(paths: Paths) -> int:
    """Chat until the person leaves or the input ends.

    Raises:
        NotRunning: Muster does not run, or no longer runs.
    """
    from connectors.terminal.prompt import converse

    socket = paths.gateway_socket
    _only_ours(socket)
    terminal = RemoteTerminal(socket)
    await converse(
        terminal,
        complete=terminal.complete,
        history=paths.prompt_history,
        settle=lambda: terminal.until_quiet(QUIET),
    )
    if terminal.lost is not None:
        raise terminal.lost
    return 0


class RemoteTerminal:
    """A terminal of the Muster behind a socket. Supports one attachment at a time."""

    def __init__(
        self,
        socket: Path,
        *,
        retry_for: float = RETRY_FOR,
        clock: Callable[[], float] = time.monotonic,
        connector: str | None = None,
        unsaid: Unsaid | None = None,
    ) -> None:
        """Create a terminal that is not attached yet.

        Args:
            socket: the gateway's socket.
            retry_for: seconds to retry a connection.
            clock: returns seconds since any moment.
            connector: the name of the connector to attach to; None for the terminal.
            unsaid: stores input until Muster has it. With it, Muster need not run yet.
        """
        self._socket = socket
        self._retry_for = retry_for
        self._clock = clock
        self._connector = connector
        self._unsaid = unsaid
        self._http: ClientSession | None = None
        self._link: RemoteLink | None = None
        self.lost: MusterError | None = None
        """Why the attachment ended by itself."""

    @contextlib.asynccontextmanager
    async def attached(self, after: int | None = None) -> AsyncIterator[RemoteLink]:
        """Attach during the block.

        Raises:
            NotRunning: Muster does not run.
        """
        async with ClientSession(connector=UnixConnector(path=str(self._socket))) as http:
            self._http = http
            self._link = link = RemoteLink(after, self._unsaid)
            ready = asyncio.get_running_loop().create_future()
            if self._unsaid is not None:
                ready.set_result(None)
            running = asyncio.ensure_future(self._run(http, link, ready))
            try:
                await ready
                yield link
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                link.end()

    def standing(self) -> str:
        """Return the status line: the fleet's state, or why it is unknown, and the number of waiting messages."""
        return "" if self._link is None else self._link.standing()

    async def complete(self, text: str) -> list[str]:
        """Return the completions of the text at the prompt."""
        from bot.commands import sections
        from bot.commands.candidates import candidates

        return await candidates(sections.load(), text, self._words)

    async def until_quiet(self, quiet: float) -> None:
        """Wait until there was no message for so many seconds and no agent is at work."""
        link = self._link
        while link is not None and not link.ended:
            link.news.clear()
            try:
                async with asyncio.timeout(quiet):
                    await link.news.wait()
            except TimeoutError:
                if not link.working:
                    return

    async def _words(self, source: str) -> Sequence[str]:
        if self._http is None:
            return ()
        try:
            async with self._http.get("http://muster/v1/complete", params={"source": source}) as answer:
                words = (await answer.json())["words"]
        except (ClientError, OSError, ValueError, KeyError, TypeError):
            return ()
        return [word for word in words if isinstance(word, str)] if isinstance(words, list) else ()

    async def _run(self, http: ClientSession, link: RemoteLink, ready: asyncio.Future[None]) -> None:
        """Keep the connection, and end the link if it cannot be restored."""
        lost_at: float | None = None
        pause = _PAUSE
        try:
            while not link.ended:
                try:
                    params = {} if link.last is None else {"after": str(link.last)}
                    if self._connector is not None:
                        params["connector"] = self._connector
                    async with http.ws_connect(
                        "http://muster/v1/terminal", params=params, max_msg_size=_LONGEST_LINE, heartbeat=30.0
                    ) as socket:
                        _sure_of(socket, self._socket)
                        lost_at, pause = None, _PAUSE
                        if not ready.done():
                            ready.set_result(None)
                        await link.talk(socket)
                except WSServerHandshakeError as error:
                    name = self._connector or "terminal"
                    reason = f"this Muster has no {name}; add connectors.{name} to muster.yaml"
                    kind = NoSuchConnector if error.status == 409 else NotSaid
                    self.lost = kind(f"Muster refuses the connection: {reason if error.status == 409 else error}.")
                    return
                except (ClientError, OSError, EOFError):
                    if not ready.done():
                        raise
                lost_at = self._clock() if lost_at is None else lost_at
                if self._clock() - lost_at > self._retry_for:
                    self.lost = NotRunning()
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
        except Exception as error:
            self.lost = NotRunning() if isinstance(error, (ClientError, OSError)) else NotSaid(str(error))
        finally:
            if not ready.done():
                ready.set_exception(self.lost or NotRunning())
            link.end(self.lost)


class RemoteLink:
    """One attachment, across reconnections."""

    def __init__(self, after: int | None = None, unsaid: Unsaid | None = None) -> None:
        self.last = after
        """The sequence number of the last line that came."""
        self.working: set[str] = set()
        self.news = asyncio.Event()
        self.ended = False
        self._conversations: list[str] = ["fleet"]
        self._lines: asyncio.Queue[TranscriptLine | None] = asyncio.Queue()
        self._unsaid = unsaid
        #: Requests without an answer, and the future that waits for it, or None if the message is stored on disk.
        self._waiting: dict[str, tuple[dict[str, Any], asyncio.Future[str] | None]] = {}
        self._socket: ClientWebSocketResponse | None = None
        self._fleet = ""
        for typed in () if unsaid is None else unsaid.all():
            self._waiting[typed.id] = (_saying(typed), None)

    def conversations(self) -> list[str]:
        return list(self._conversations)

    def standing(self) -> str:
        """Return the fleet's state, or why it is unknown, and the number of waiting messages."""
        if self._socket is not None:
            return self._fleet
        waiting = len(self._waiting)
        kept = f"; {waiting} message{'' if waiting == 1 else 's'} kept for it" if waiting else ""
        return f"Muster is not running{kept}"

    async def say(self, text: str, *, conversation: str, event_id: str | None = None) -> str:
        """Send a message, and return its event id once it is durable: accepted by Muster, or stored on disk.

        Reconnections do not lose the message.

        Raises:
            NotSaid: Muster refused it, or does not come back.
        """
        event_id = event_id or f"said-{uuid.uuid4().hex}"
        if self.ended:
            raise NotSaid("Muster is not running any more.")
        typed = Typed(id=event_id, conversation=conversation, text=text)
        if self._unsaid is not None and await self._kept(typed):
            self._waiting[event_id] = (_saying(typed), None)
            await self._send(_saying(typed))
            self._tell_standing()
            return event_id
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[event_id] = (_saying(typed), said)
        try:
            await self._send(_saying(typed))
            return await said
        finally:
            self._waiting.pop(event_id, None)

    async def _kept(self, typed: Typed) -> bool:
        try:
            await asyncio.to_thread(cast("Unsaid", self._unsaid).keep, typed)
        except OSError:
            return False
        return True

    def end(self, reason: MusterError | None = None) -> None:
        """Detach. The iteration yields the lines that have arrived, and then ends."""
        if self.ended:
            return
        self.ended = True
        self.news.set()
        for _, said in self._waiting.values():
            if said is not None and not said.done():
                said.set_exception(reason or NotSaid("Muster is not running any more."))
        self._lines.put_nowait(None)

    def __aiter__(self) -> RemoteLink:
        return self

    async def __anext__(self) -> TranscriptLine:
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)
            raise StopAsyncIteration
        return line

    async def talk(self, socket: ClientWebSocketResponse) -> None:
        """Use a connection until it is lost. Messages without an answer are sent again first."""
        self._socket = socket
        self._tell_standing()
        try:
            await self._send({"type": "conversations"})
            for request, _ in list(self._waiting.values()):
                await self._send(request)
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._receive(json.loads(message.data))
                if self.ended:
                    return
        finally:
            self._socket = None
            self._tell_standing()

    async def _send(self, request: Mapping[str, Any]) -> None:
        if self._socket is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):  # it is sent again over the next connection
                await self._socket.send_json(request)

    def _receive(self, source: Any) -> None:
        match source:
            case {"type": "accepted", "id": str(event_id)}:
                self._answer(event_id, None)
            case {"type": "refused", "again": True, "id": str(event_id)} if self._is_kept(event_id):
                asyncio.get_running_loop().call_later(SAY_AGAIN_S, self._say_again, event_id)
            case {"type": "refused", "reason": str(reason)}:
                self._answer(str(source.get("id")), NotSaid(reason))
            case {"type": "conversations", "conversations": list(names)}:
                self._conversations = [name for name in names if isinstance(name, str)]
            case {"kind": str()}:
                self._show(TranscriptLine.from_json(source))

    def _answer(self, event_id: str, refusal: NotSaid | None) -> None:
        if event_id not in self._waiting:
            return
        request, said = self._waiting[event_id]
        if said is None:
            del self._waiting[event_id]
            cast("Unsaid", self._unsaid).drop(event_id)
            if refusal is not None:
                where, words = str(request["conversation"]), f"[not sent: {refusal}]\n{request['text']}"
                self._lines.put_nowait(
                    TranscriptLine(
                        kind="message", id=event_id, conversation=where, at=time.time(), text=words, aside=True
                    )
                )
            self._tell_standing()
        elif not said.done():
            if refusal is None:
                said.set_result(event_id)
            else:
                said.set_exception(refusal)

    def _is_kept(self, event_id: str) -> bool:
        return event_id in self._waiting and self._waiting[event_id][1] is None

    def _say_again(self, event_id: str) -> None:
        if self._socket is not None and self._is_kept(event_id):
            self._again = asyncio.ensure_future(self._send(self._waiting[event_id][0]))

    def _tell_standing(self) -> None:
        """Request an update of the status line, which is not part of the transcript."""
        if self._unsaid is not None and not self.ended:
            self._lines.put_nowait(
                TranscriptLine(kind="fleet", id="", conversation="", at=time.time(), text=self.standing())
            )

    def _show(self, line: TranscriptLine) -> None:
        if line.seq:
            self.last = max(self.last or 0, line.seq)
        if line.kind == "fleet":
            self._fleet = line.text
        if line.kind == "typing":
            (self.working.add if line.active else self.working.discard)(line.conversation)
        if line.opens and line.opens not in self._conversations:
            self._conversations.append(line.opens)
        if line.kind != "fleet":
            self.news.set()
        self._lines.put_nowait(line)


def _saying(typed: Typed) -> dict[str, Any]:
    return {"type": "say", "text": typed.text, "conversation": typed.conversation, "id": typed.id}


def _sure_of(connection: ClientWebSocketResponse, socket: Path) -> None:
    """Refuse to send input to another user's process that replaced the socket in the meantime."""
    found = unix_sockets.uid_of(connection.get_extra_info("socket"))
    if found not in (None, os.geteuid(), 0):
        raise NotSaid(f"Another user listens on {socket}, so nothing was sent. Remove it.")


def _only_ours(socket: Path) -> None:
    try:
        found = socket.lstat()
    except OSError:
        raise NotRunning from None
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
        raise MusterError(f"{socket} is not a socket of yours, so nothing was sent. Remove it.")
