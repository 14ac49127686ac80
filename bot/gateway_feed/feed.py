"""The documents of a running orchestrator, over its gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from bot.gateway_feed.requests import BrokenAnswer, GatewayAnswer, GatewayRequests, read_answer
from bot.gateway_feed.server_sent_events import LONGEST_EVENT, BrokenStream, EventReader
from bot.read_models.codec import NotOnWire, from_wire
from bot.read_models.documents import Document, ReadModel, type_of
from bot.read_models.patches import PATCHED, patched
from bot.text.errors import NotRunning
from core.errors import MusterError

#: Seconds without a byte after which a stream is dead. The gateway sends a line every 15 s.
SILENCE_S: Final = 40.0
#: Seconds for one event to arrive.
EVENT_S: Final = 60.0
#: Seconds for which nothing may listen on the socket before Muster counts as down. A restart takes less.
AWAY_S: Final = 3.0
#: Seconds between attempts, the last one again and again.
PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
#: The longest part of something wrong that a message quotes.
_QUOTED: Final = 80
#: Bytes of an event above which it is read in a thread, so that keys are answered meanwhile.
_LARGE: Final = 16_384


class UnknownDocument(MusterError):
    """The running Muster has no documents. It may be an older version: `muster update` and a restart help."""

    code = "document.unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLink:
    """The connection to where documents come from."""

    live: bool
    """Whether documents arrive. Otherwise, what is shown gets older."""
    why: str = ""
    """Why it is not live, as a sentence."""


def _unheard(link: FeedLink) -> None:
    """Ignore the state of the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFeed:
    """A `DocumentFeed` over the gateway's socket. It reconnects by itself, and goes on where it was."""

    path: Path
    tell: Callable[[FeedLink], None] = _unheard
    """Called each time that the connection is made or lost."""
    longest: int = LONGEST_EVENT
    silence_s: float = SILENCE_S
    event_s: float = EVENT_S
    away_s: float = AWAY_S
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
    _requests: GatewayRequests = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_requests", GatewayRequests(self.path))

    async def get(self, name: str) -> Document:
        """Return a document as it is now.

        Raises:
            NotRunning: nothing listens on the socket.
            MusterError: there is no such document, or it cannot be read.
        """
        answer = await self._requests.get(f"/v1/documents/{quote(name)}")
        if answer.status != 200:
            raise _refusal(answer)
        try:
            return await _document_of(json.dumps(answer.body))
        except BrokenAnswer as error:
            raise MusterError(f"The gateway sent something that is no document: {error}.") from None

    async def page(self, name: str, before: str) -> ReadModel | None:
        """Return an older page of a document.

        Raises:
            NotRunning: nothing listens on the socket.
            MusterError: there is no such page, or it cannot be read.
        """
        answer = await self._requests.get(f"/v1/documents/{quote(name)}?before={quote(before, safe='')}")
        kind, value = type_of(name), answer.body.get("value")
        if answer.status != 200 or kind is None:
            raise _refusal(answer)
        try:
            return None if value is None else await asyncio.to_thread(from_wire, kind, value)
        except NotOnWire as error:
            raise MusterError(f"The gateway sent something that is no document: {error}.") from None

    @contextlib.asynccontextmanager
    async def follow(
        self, names: Collection[str], *, after: tuple[str, int] | None = None
    ) -> AsyncIterator[AsyncIterator[Document]]:
        """Follow documents, also over interruptions.

        Raises:
            NotRunning: nothing listens on the socket, and has not for a while.
            MusterError: there is no document of one of the names, or another user listens on the socket.
        """
        documents = self._documents(tuple(names), "" if after is None else f"{after[0]}:{after[1]}")
        try:
            yield documents
        finally:
            await documents.aclose()

    async def _documents(self, names: tuple[str, ...], last_id: str) -> AsyncGenerator[Document, None]:
        since, pauses = self.clock(), iter(PAUSES_S)
        while True:
            reader = EventReader(longest=self.longest, last_id=last_id)
            try:
                async with contextlib.aclosing(self._stream(names, reader)) as documents:
                    async for document in documents:
                        since, pauses = self.clock(), iter(PAUSES_S)
                        yield document
                        last_id = f"{document.epoch}:{document.revision}"
                why = "Muster closed the connection"
            except NotRunning:
                if self.clock() - since >= self.away_s:
                    raise
                why = "Muster is not there"
            except TimeoutError:
                why = "Muster does not answer"
            except (BrokenStream, BrokenAnswer, NotOnWire) as error:
                why = f"The gateway sent something that is no document: {error}"
            except OSError as error:
                why = f"The connection broke: {error.strerror or type(error).__name__}"
            self.tell(FeedLink(live=False, why=f"{why}. It is tried again."))
            await self.sleep(next(pauses, PAUSES_S[-1]))

    async def _stream(self, names: tuple[str, ...], reader: EventReader) -> AsyncGenerator[Document, None]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": reader.last_id} if reader.last_id else {})
        address = f"/v1/stream?documents={','.join(map(quote, names))}&patches=1"
        fleet: Document | None = None
        async with self._requests.opened("GET", address, headers=headers) as (status, kind, stream):
            if status != 200 or kind != "text/event-stream":
                async with asyncio.timeout(self.silence_s):
                    await self._refuse(status, stream)
            self.tell(FeedLink(live=True))
            began: float | None = None
            async for received in _received(stream, self.silence_s):
                for event in reader.feed(received):
                    began = None
                    if event.kind == "document":
                        document = await _document_of(event.data)
                    elif event.kind == "patch":
                        document = await _patched(fleet, event.data)
                    else:
                        continue
                    if document.name == PATCHED:
                        fleet = document
                    yield document
                if not reader.is_inside:
                    began = None
                    continue
                began = began if began is not None else self.clock()
                if self.clock() - began > self.event_s:
                    raise BrokenStream(f"an event is not complete after {self.event_s:g} s")

    async def _refuse(self, status: int, stream: asyncio.StreamReader) -> None:
        answer = await read_answer(status, stream)
        if status in (400, 404):
            raise _refusal(answer)
        raise BrokenStream(f"status {status}: {answer.text[:_QUOTED]}")


async def _received(stream: asyncio.StreamReader, silence_s: float) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(silence_s):
            received = await stream.read(262_144)
        if not received:
            return
        yield received


def _refusal(answer: GatewayAnswer) -> MusterError:
    # A version without documents has no such address.
    return UnknownDocument() if answer.code == "http" else MusterError(answer.text, code=answer.code)


async def _document_of(written: str) -> Document:
    """Return the document of an object in JSON.

    Raises:
        BrokenAnswer: it is no document.
        NotOnWire: its value is none of its type.
    """
    return _read(written) if len(written) < _LARGE else await asyncio.to_thread(_read, written)


async def _patched(known: Document | None, written: str) -> Document:
    """Return the document that a patch makes of a known one.

    Raises:
        BrokenAnswer: it is no JSON object.
        NotOnWire: it is no patch of that document.
    """
    if len(written) < _LARGE:
        return patched(known, _object(written))
    return await asyncio.to_thread(lambda: patched(known, _object(written)))


def _object(written: str) -> Mapping[str, object]:
    try:
        raw: object = json.loads(written)
    except (ValueError, RecursionError):
        raise BrokenAnswer(f"it is no JSON: {written[:_QUOTED]!r}") from None
    if not isinstance(raw, dict):
        raise BrokenAnswer(f"it is no object: {written[:_QUOTED]!r}")
    return raw


def _read(written: str) -> Document:
    given = _object(written)
    name, revision, epoch, made_at = (given.get(key) for key in ("name", "revision", "epoch", "made_at"))
    if not (
        isinstance(name, str)
        and isinstance(revision, int)
        and isinstance(epoch, str)
        and isinstance(made_at, int | float)
    ):
        raise BrokenAnswer(f"its name, revision, epoch or time is missing: {written[:_QUOTED]!r}")
    kind, value = type_of(name), given.get("value")
    if kind is None:
        raise BrokenAnswer(f"no document is called {name[:_QUOTED]!r}")
    return Document(
        name=name,
        revision=revision,
        epoch=epoch,
        made_at=float(made_at),
        value=None if value is None else from_wire(kind, value),
    )
