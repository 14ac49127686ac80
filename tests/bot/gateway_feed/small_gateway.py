"""A gateway that speaks documents on the wire, and can be made to misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from bot.read_models.codec import to_wire
from bot.read_models.documents import Document, ReadModel, type_of
from tests import waiting


@dataclass(slots=True)
class SmallGateway:
    """The other end of a feed."""

    path: Path
    epoch: str = "e1"
    documents: dict[str, Document] = field(default_factory=dict)
    ran: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    """Each command that came, with its arguments."""
    confirmed: list[bool] = field(default_factory=list)
    answers: dict[str, tuple[int, dict[str, object]]] = field(default_factory=dict)
    """What is answered to a command, by its name."""
    words: dict[str, list[str]] = field(default_factory=dict)
    resumed: list[str] = field(default_factory=list)
    """The `Last-Event-ID` of each stream that was opened."""
    first: bytes | None = None
    """What the next stream begins with instead of documents; it ends after it."""
    stalls: bool = False
    """Whether that stream stays open without another byte."""
    _revision: int = 0
    _server: asyncio.Server | None = None
    _streams: set[asyncio.StreamWriter] = field(default_factory=set)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def put(self, name: str, value: ReadModel | None) -> Document:
        """Change a document."""
        self._revision += 1
        document = Document(
            name=name, revision=self._revision, epoch=self.epoch, made_at=1_000_000.0 + self._revision, value=value
        )
        self.documents[name] = document
        async with self._changed:
            self._changed.notify_all()
        return document

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[SmallGateway]:
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def stop(self) -> None:
        """Go away, as a killed process does: the socket file stays, and nobody listens."""
        if self._server is None:
            return
        self._server.close()
        self.cut()
        self._server = None
        await waiting.until(lambda: not self._streams, limit=5)

    def cut(self) -> None:
        """Break every stream."""
        for writer in tuple(self._streams):
            writer.transport.abort()

    @property
    def open_streams(self) -> int:
        """The number of connections."""
        return len(self._streams)

    async def streams(self, count: int) -> None:
        """Wait until so many streams have been opened."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.resumed) >= count)

    async def commands(self, count: int) -> None:
        """Wait until so many commands came."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.ran) >= count)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        try:
            method, target, _ = (await reader.readline()).decode().split()
            headers = {}
            while line := (await reader.readline()).decode().strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            await self._answer(method, target, headers, body, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._streams.discard(writer)

    async def _answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        url = urlsplit(target)
        if url.path == "/v1/stream":
            await self._stream(unquote(parse_qs(url.query)["documents"][0]).split(","), headers, writer)
        elif url.path.startswith("/v1/documents/"):
            name = unquote(url.path.removeprefix("/v1/documents/"))
            if type_of(name) is None:
                _say(writer, 404, {"error": "There is no such document.", "code": "http"})
            else:
                _say(writer, 200, _wire(self._document(name)))
        elif url.path == "/v1/complete":
            _say(writer, 200, {"words": self.words.get(parse_qs(url.query)["source"][0], [])})
        elif method == "POST":
            name = unquote(url.path.removeprefix("/v1/commands/")).replace("/", " ")
            self.ran.append((name, json.loads(body)))
            self.confirmed.append(headers.get("muster-confirm") == "yes")
            done = {"id": "1", "state": "done", "text": f"Did {name}.", "data": None, "reason": None, "code": None}
            _say(writer, *self.answers.get(name, (200, done)))
            async with self._changed:
                self._changed.notify_all()
        await writer.drain()

    def _document(self, name: str) -> Document:
        gone = Document(name=name, revision=self._revision, epoch=self.epoch, made_at=1_000_000.0, value=None)
        return self.documents.get(name, gone)

    async def _stream(self, names: list[str], headers: Mapping[str, str], writer: asyncio.StreamWriter) -> None:
        last = headers.get("last-event-id", "")
        self.resumed.append(last)
        async with self._changed:
            self._changed.notify_all()
        if any(type_of(name) is None for name in names):
            _say(writer, 404, {"error": "There is no such document.", "code": "http"})
            return
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n")
        if self.first is not None:
            writer.write(self.first)
            self.first = None
            await writer.drain()
            while self.stalls and not writer.is_closing():
                await asyncio.sleep(0.01)
            return
        epoch, _, number = last.partition(":")
        seen = int(number) if epoch == self.epoch else -1
        sent: dict[str, int] = {}
        while not writer.is_closing():
            for document in sorted(map(self._document, names), key=lambda each: each.revision):
                if document.revision > sent.get(document.name, seen):
                    sent[document.name] = document.revision
                    written = json.dumps(_wire(document))
                    identity = f"{document.epoch}:{document.revision}"
                    writer.write(f": hello\n\nevent: document\nid: {identity}\ndata: {written}\n\n".encode())
            writer.write(b": still here\n\n")
            await writer.drain()
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.1)


def _wire(document: Document) -> dict[str, object]:
    return {
        "name": document.name,
        "revision": document.revision,
        "epoch": document.epoch,
        "made_at": document.made_at,
        "value": to_wire(document.value, str),
    }


def _say(writer: asyncio.StreamWriter, status: int, body: Mapping[str, object]) -> None:
    written = json.dumps(body).encode()
    head = f"HTTP/1.0 {status} X\r\nContent-Type: application/json; charset=utf-8\r\n\r\n"
    writer.write(head.encode() + written)
