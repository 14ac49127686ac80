"""A connector to a chat server that speaks lines of JSON, and nothing but text. Installed beside Muster, it is a kind.

We say {"since": NUMBER}, or null for what comes from now on; {"say": TEXT, "room": ROOM, "tag": TAG}; {"find": TAG}.
It answers {"begins": NUMBER}, then {"n": NUMBER, "at", "who", "room", "text", "tag"} for each message, ours too, and
{"found": TAG, "n": NUMBER or null}.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from connectors.contract.connector_protocol import MessageRefused, NotReady, Sink, TryLater
from connectors.contract.messages import Attachment, Batch, Capabilities, Health, Inbound, Message, Outbound, Sent, Text


class Settings(BaseModel, frozen=True, extra="forbid"):
    port: int


class LineChat:
    kind = "linechat"
    SettingsModel = Settings

    def __init__(self, name: str, settings: Settings, folder: Path) -> None:
        self.name = name
        self.capabilities = Capabilities(max_text=4000)
        self._port = settings.port
        self._there = asyncio.Event()
        self._waiting: dict[tuple[str, str], asyncio.Future[int | None]] = {}
        self._last_seen: float | None = None

    def subscribe(self, sink: Sink) -> None:
        self._sink = sink

    async def start(self, cursor: str | None) -> None:
        try:
            reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        except OSError as error:
            raise NotReady(f"The chat server on port {self._port} is not there: {error.strerror}.") from error
        try:
            self._write({"since": None if cursor is None else int(cursor)})
            async for raw in reader:
                self._last_seen, line = time.time(), json.loads(raw)
                if "begins" in line:
                    self._there.set()
                    if cursor is None:
                        await self._sink(Batch(events=(), cursor=str(line["begins"])))
                elif "found" in line:
                    self._answer(("find", line["found"]), line["n"])
                elif line["tag"] is not None:
                    self._answer(("say", line["tag"]), line["n"])
                else:
                    await self._sink(Batch(events=(self._inbound(line),), cursor=str(line["n"])))
            raise NotReady("The chat server hung up.")
        except OSError as error:
            raise NotReady(f"The connection to the chat server broke: {error}.") from error
        finally:
            self._there.clear()
            self._writer.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(TryLater("The connection to the chat server broke.", away=True))

    async def connected(self) -> None:
        await self._there.wait()

    async def stop(self) -> None: ...

    async def send(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent:
        if not isinstance(outbound.content, Message):
            raise MessageRefused("Only text can be said here.")
        said = {"say": outbound.content.text, "room": conversation, "tag": outbound.key}
        return Sent(event_id=str(await self._ask(("say", outbound.key), said)))

    async def find(self, outbound: Outbound, *, conversation: str, target: str | None) -> Sent | None:
        number = await self._ask(("find", outbound.key), {"find": outbound.key})
        return None if number is None else Sent(event_id=str(number))

    def scope(self) -> str:
        return str(self._port)

    async def download(self, attachment: Attachment, *, limit: int) -> bytes:
        raise MessageRefused("There are no files here.")

    async def typing(self, conversation: str, *, active: bool) -> None: ...

    async def health(self) -> Health:
        there = self._there.is_set()
        detail = "Connected." if there else f"Start the chat server on port {self._port}."
        return Health(kind=self.kind, reachable=there, authenticated=None, last_seen=self._last_seen, detail=detail)

    def _write(self, line: dict[str, Any]) -> None:
        self._writer.write(json.dumps(line).encode() + b"\n")

    async def _ask(self, about: tuple[str, str], request: dict[str, Any]) -> int | None:
        if not self._there.is_set():
            raise TryLater("The chat server is not there.", away=True)
        waiting: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._waiting[about] = waiting
        self._write(request)
        return await waiting

    def _answer(self, about: tuple[str, str], number: int | None) -> None:
        waiting = self._waiting.pop(about, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(number)

    def _inbound(self, line: dict[str, Any]) -> Inbound:
        said = {"event_id": str(line["n"]), "conversation": line["room"], "sender": line["who"], "sent_at": line["at"]}
        return Inbound(connector=self.name, body=Text(text=line["text"]), **said)
