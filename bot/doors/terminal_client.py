"""`muster chat`: the prompt, attached to a Muster that runs elsewhere on this machine.

When Muster is restarted the connection is made again, from the last line that was shown, and what was typed meanwhile
is said under the id that it has, so that it counts once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import time
import uuid
from typing import TYPE_CHECKING, Any

from bot.errors import NotRunning
from connectors.transcript import Line
from register.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from aiohttp import ClientSession, ClientWebSocketResponse

    from bot.paths import Paths

#: Seconds for which a lost connection is made again.
RETRY_FOR = 60.0
_PAUSE = 0.3
#: Seconds without a word after which everything that piped input asked for counts as answered.
QUIET = 3.0
_LONGEST_LINE = 16 * 1_048_576


class NotSaid(MusterError):
    """Muster did not take what was typed."""


async def chat(paths: Paths, *, retry_for: float = RETRY_FOR, quiet: float = QUIET) -> int:
    """Talk until the person leaves or the input ends.

    Raises:
        NotRunning: nobody listens, or nobody listens any more.
    """
    from connectors.terminal_prompt import converse

    socket = paths.gateway_socket
    _only_ours(socket)
    terminal = RemoteTerminal(socket, retry_for=retry_for)
    await converse(
        terminal,
        complete=terminal.complete,
        history=paths.prompt_history,
        settle=lambda: terminal.until_quiet(quiet),
    )
    if terminal.lost is not None:
        raise terminal.lost
    return 0


class RemoteTerminal:
    """The terminal of the Muster behind a socket. For one attachment at a time."""

    def __init__(self, socket: Path, *, retry_for: float = RETRY_FOR, clock: Callable[[], float] = time.monotonic):
        self._socket = socket
        self._retry_for = retry_for
        self._clock = clock
        self._http: ClientSession | None = None
        self._link: RemoteLink | None = None
        self.lost: MusterError | None = None
        """Why the attachment ended by itself."""

    @contextlib.asynccontextmanager
    async def attached(self, after: int | None = None) -> AsyncIterator[RemoteLink]:
        """Attach for the time of the block.

        Raises:
            NotRunning: nobody listens.
        """
        from aiohttp import ClientSession, UnixConnector

        async with ClientSession(connector=UnixConnector(path=str(self._socket))) as http:
            self._http = http
            self._link = link = RemoteLink(after)
            ready = asyncio.get_running_loop().create_future()
            running = asyncio.ensure_future(self._run(http, link, ready))
            try:
                await ready
                yield link
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                link.end()

    async def complete(self, text: str) -> list[str]:
        """The words that can follow at the prompt."""
        from bot.commands import sections
        from bot.commands.completion import candidates

        return await candidates(sections.load(), text, self._words)

    async def until_quiet(self, quiet: float) -> None:
        """Wait until nothing was said for so many seconds and nobody is at work."""
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
        from aiohttp import ClientError

        if self._http is None:
            return ()
        try:
            async with self._http.get("http://muster/v1/complete", params={"source": source}) as answer:
                words = (await answer.json())["words"]
        except (ClientError, OSError, ValueError, KeyError, TypeError):
            return ()
        return [word for word in words if isinstance(word, str)] if isinstance(words, list) else ()

    async def _run(self, http: ClientSession, link: RemoteLink, ready: asyncio.Future[None]) -> None:
        """Keep the connection; end the link when it cannot be made again."""
        from aiohttp import ClientError, WSServerHandshakeError

        lost_at: float | None = None
        try:
            while not link.ended:
                try:
                    url = "http://muster/v1/terminal" + ("" if link.last is None else f"?after={link.last}")
                    async with http.ws_connect(url, max_msg_size=_LONGEST_LINE, heartbeat=30.0) as socket:
                        lost_at = None
                        if not ready.done():
                            ready.set_result(None)
                        await link.talk(socket)
                except WSServerHandshakeError as error:
                    reason = "this Muster has no terminal; add connectors.terminal to muster.yaml"
                    self.lost = NotSaid(f"Muster does not let us in: {reason if error.status == 409 else error}.")
                    return
                except (ClientError, OSError, EOFError):
                    if not ready.done():
                        raise
                lost_at = self._clock() if lost_at is None else lost_at
                if self._clock() - lost_at > self._retry_for:
                    self.lost = NotRunning()
                    return
                await asyncio.sleep(_PAUSE)
        except Exception as error:
            self.lost = NotRunning() if isinstance(error, (ClientError, OSError)) else NotSaid(str(error))
        finally:
            if not ready.done():
                ready.set_exception(self.lost or NotRunning())
            link.end(self.lost)


class RemoteLink:
    """One attachment, across reconnections."""

    def __init__(self, after: int | None = None) -> None:
        self.last = after
        """The sequence number of the last line that came."""
        self.working: set[str] = set()
        self.news = asyncio.Event()
        self.ended = False
        self._conversations: list[str] = ["fleet"]
        self._lines: asyncio.Queue[Line | None] = asyncio.Queue()
        self._waiting: dict[str, tuple[dict[str, Any], asyncio.Future[str]]] = {}
        self._socket: ClientWebSocketResponse | None = None

    def conversations(self) -> list[str]:
        return list(self._conversations)

    async def say(self, text: str, *, conversation: str, event_id: str | None = None) -> str:
        """Say something, and return its event id when Muster has it, however often the connection breaks meanwhile.

        Raises:
            NotSaid: Muster refused it, or is gone for good.
        """
        event_id = event_id or f"said-{uuid.uuid4().hex}"
        if self.ended:
            raise NotSaid("Muster is not running any more.")
        request = {"type": "say", "text": text, "conversation": conversation, "id": event_id}
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[event_id] = (request, said)
        try:
            await self._send(request)
            return await said
        finally:
            self._waiting.pop(event_id, None)

    def end(self, reason: MusterError | None = None) -> None:
        """Detach: what came until now is still handed out, and then the iteration ends."""
        if self.ended:
            return
        self.ended = True
        self.news.set()
        for _, said in self._waiting.values():
            if not said.done():
                said.set_exception(reason or NotSaid("Muster is not running any more."))
        self._lines.put_nowait(None)

    def __aiter__(self) -> RemoteLink:
        return self

    async def __anext__(self) -> Line:
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)
            raise StopAsyncIteration
        return line

    async def talk(self, socket: ClientWebSocketResponse) -> None:
        """Use a connection until it is lost. What was said and not answered before is said again."""
        from aiohttp import WSMsgType

        self._socket = socket
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

    async def _send(self, request: Mapping[str, Any]) -> None:
        if self._socket is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):  # it is sent again over the next connection
                await self._socket.send_json(request)

    def _receive(self, source: Any) -> None:
        match source:
            case {"type": "accepted", "id": str(event_id)}:
                self._answer(event_id, None)
            case {"type": "refused", "reason": str(reason)}:
                self._answer(str(source.get("id")), NotSaid(reason))
            case {"type": "conversations", "conversations": list(names)}:
                self._conversations = [name for name in names if isinstance(name, str)]
            case {"kind": str()}:
                self._show(Line.from_json(source))

    def _answer(self, event_id: str, refusal: NotSaid | None) -> None:
        _, said = self._waiting.get(event_id, ({}, None))
        if said is not None and not said.done():
            if refusal is None:
                said.set_result(event_id)
            else:
                said.set_exception(refusal)

    def _show(self, line: Line) -> None:
        if line.seq:
            self.last = max(self.last or 0, line.seq)
        if line.kind == "typing":
            (self.working.add if line.active else self.working.discard)(line.conversation)
        if line.opens and line.opens not in self._conversations:
            self._conversations.append(line.opens)
        self.news.set()
        self._lines.put_nowait(line)


def _only_ours(socket: Path) -> None:
    try:
        found = socket.lstat()
    except OSError:
        raise NotRunning from None
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
        raise MusterError(f"{socket} is not a socket of yours, so nothing is said to it. Remove it.")
