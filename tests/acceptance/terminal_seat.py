"""At the terminal: `muster chat` without its prompt, attached through the gateway's socket."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bot.config.paths import Paths
from bot.interfaces.cli.terminal.chat_client import RemoteLink, RemoteTerminal
from bot.text.errors import NotRunning
from connectors.terminal.connector import MAIN
from connectors.terminal.transcript_file import TranscriptLine
from tests.acceptance.seat import LIMIT, LOOK_AGAIN, Download, Seat, Seen


class TerminalSeat(Seat):
    """What came over the socket, folded as a screen would show it."""

    kind = "terminal"
    connector: str | None = None
    """Which one to attach to; None: the terminal."""
    who = getpass.getuser()
    room = MAIN
    shows_replies = False
    takes_back = False
    attaches = False

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._link: RemoteLink | None = None
        self._attached = asyncio.Event()
        self._changed = asyncio.Event()
        self._lines: list[TranscriptLine] = []
        self._worked: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def opened(cls, paths: Paths) -> AsyncIterator[TerminalSeat]:
        """A seat at the Muster of these paths, whenever that runs."""
        seat = cls(paths.gateway_socket)
        attaching = asyncio.create_task(seat._attach())
        try:
            yield seat
        finally:
            attaching.cancel()
            await asyncio.wait([attaching])

    def block(self) -> Mapping[str, Any]:
        return {}

    async def arrived(self) -> None:
        async with asyncio.timeout(LIMIT):
            await self._attached.wait()

    async def say(self, text: str, place: str) -> str:
        assert self._link is not None
        return await self._link.say(text, conversation=place)

    async def look(self) -> list[Seen]:
        found: dict[str, Seen] = {}
        for line in self._lines:
            match line.kind:
                case "message" | "thread":
                    found[line.id] = Seen(id=line.id, place=line.conversation, text=line.text, opens=line.opens)
                case "edit":
                    known = found[str(line.target)]
                    found[known.id] = Seen(
                        id=known.id, place=known.place, text=line.text, opens=known.opens, changes=known.changes + 1
                    )
                case "file":
                    caption, _, shown = line.text.rpartition("\n")
                    name, _, path = shown.strip("[]").partition(": ")
                    file = Download(name=name, ref=path)
                    found[line.id] = Seen(id=line.id, place=line.conversation, text=caption, file=file)
        return list(found.values())

    async def news(self) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN):
                await self._changed.wait()

    async def receipts(self, message: str, place: str) -> list[str]:
        return [line.text for line in self._lines if line.kind == "reaction" and line.target == message]

    async def working(self) -> set[str]:
        return self._worked

    async def fetch(self, file: Download) -> bytes:
        return await asyncio.to_thread(Path(file.ref).read_bytes)

    async def _attach(self) -> None:
        """Attach whenever Muster can be reached, as somebody does who calls `muster chat` again."""
        while True:
            terminal = RemoteTerminal(self._socket, retry_for=LIMIT, connector=self.connector)
            try:
                async with terminal.attached(self._lines[-1].seq if self._lines else None) as self._link:
                    self._attached.set()
                    async for line in self._link:
                        if line.kind == "typing":
                            self._worked |= {line.conversation} if line.active else set()
                        elif line.seq:
                            self._lines.append(line)
                        self._changed.set()
            except (NotRunning, OSError):
                await asyncio.sleep(0.05)
