"""How an answer's bytes travel: in which chunks, compressed or not, with which line ends and what between the events.

All of it is legal, or was seen: clients and proxies must take it. Directives order it, wherever they are in the text:

    [[encode: gzip|deflate|br|zstd unsaid]]
                              compress it, whatever the client accepts; unsaid: without a header that says so
    [[chunks: N|whole|random]]
                              write it N bytes at a time, all at once, or cut anywhere
    [[lines: crlf|cr|lf]]     end lines so
    [[noise]]                 comments, pings and unknown events in between
    [[trailing]]              something after the terminal event
    [[linger: SECONDS]]       keep the connection open so long after the terminal event
    [[usage: KIND]]           tell what is billed as tests.sim.odd_usage.KINDS says

To the provider's own reader they are words, and words are not answered where something is to be said.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import brotli
from aiohttp import web

from fleet.sim.provider.api_writer import ApiWriter, ResponseEnvelope, frame
from fleet.sim.provider.normalized_request import Api
from fleet.sim.provider.prompt_directives import LONGEST_PAUSE_S
from fleet.sim.provider.response_delivery import ResponseBody, ResponseDelivery
from tests.sim.odd_usage import KINDS, Kind, OddCompletionsWriter, OddUsage, SteppingAnthropicWriter

Encoding: TypeAlias = Literal["gzip", "deflate", "br", "zstd"]
Lines: TypeAlias = Literal["lf", "crlf", "cr"]

ENCODINGS: tuple[Encoding, ...] = ("gzip", "deflate", "br", "zstd")
LINES: Mapping[Lines, bytes] = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}
_DIRECTIVE = re.compile(r"\[\[(encode|chunks|lines|noise|trailing|linger|usage)\b:?([^\]]*)\]\]")
_TERMINAL = (
    b"event: message_stop\n",
    b"event: response.completed\n",
    b"event: response.incomplete\n",
    b"data: [DONE]\n",
)
_TRAILING = (b": that was all\n\n", frame({"type": "ping"}, "ping"))
_SIZES = (1, 2, 3, 7, 40, 300, 3_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Oddities:
    """How one answer is delivered."""

    encoding: Encoding | None = None
    """Compressed so, whatever the client accepts."""
    unsaid: bool = False
    """... and no header says it."""
    chunk: int | Literal["event", "whole", "random"] = "event"
    """Bytes in each write; whole: everything in one; random: of any size, wherever events or characters end."""
    lines: Lines = "lf"
    noise: bool = False
    """Comments, pings, unknown events and fields between and in the events."""
    trailing: bool = False
    """Something comes after the terminal event."""
    linger_s: float = 0.0
    """The connection stays open so long after the terminal event."""
    usage: Kind = "full"

    @property
    def plain(self) -> bool:
        """A document can go as it always does."""
        return self.encoding is None and self.chunk == "event" and not self.linger_s


def parse(text: str) -> tuple[Oddities, str]:
    """Return what the directives in a text order, and the text around them. One that cannot be read is none."""
    changed: dict[str, Any] = {}

    def read(directive: re.Match[str]) -> str:
        with contextlib.suppress(ValueError):
            if found := _read(directive[1], directive[2].split()):
                changed.update(found)
                return ""
        return directive[0]

    rest = _DIRECTIVE.sub(read, text)
    return Oddities(**changed), rest


def _read(name: str, words: list[str]) -> dict[str, Any] | None:
    match name, words:
        case "encode", [encoding, *more] if encoding in ENCODINGS and more in ([], ["unsaid"]):
            return {"encoding": encoding, "unsaid": bool(more)}
        case "chunks", ["whole" | "random" as size]:
            return {"chunk": size}
        case "chunks", [size] if int(size) > 0:
            return {"chunk": int(size)}
        case "lines", [ends] if ends in LINES:
            return {"lines": ends}
        case "noise" | "trailing", []:
            return {name: True}
        case "linger", [seconds] if 0 <= float(seconds) <= LONGEST_PAUSE_S:
            return {"linger_s": float(seconds)}
        case "usage", [kind] if kind in KINDS:
            return {"usage": kind}
    return None


class OddDelivery(ResponseDelivery):
    """Delivers an answer in odd ways."""

    def __init__(self, odd: Oddities) -> None:
        self._odd = odd
        self._usage = OddUsage(odd.usage)
        self.report = self._usage

    def writer(self, api: Api, envelope: ResponseEnvelope) -> ApiWriter:
        if api == "chat":
            return OddCompletionsWriter(envelope, self._usage)
        if api == "anthropic" and self._odd.usage == "steps":
            return SteppingAnthropicWriter(envelope)
        return super().writer(api, envelope)

    def body(self, http: web.Request, api: Api, dice: random.Random) -> ResponseBody:
        return OddBody(http, api, self._odd, dice)


class OddBody(ResponseBody):
    """The body of one response on its odd way to the client."""

    def __init__(self, http: web.Request, api: Api, odd: Oddities, dice: random.Random) -> None:
        super().__init__(http, api)
        self._api, self._odd, self._dice = api, odd, dice
        self._compress = _compressor(odd.encoding)
        self._waiting = bytearray()
        self._first = True

    async def open(
        self, headers: Mapping[str, str], content_type: str, *, status: int = 200, length: int | None = None
    ) -> None:
        if self._odd.encoding is not None and not self._odd.unsaid:
            headers = {**headers, "Content-Encoding": self._odd.encoding}
        await super().open(headers, content_type, status=status, length=length)

    async def send(self, frames: Iterable[bytes]) -> None:
        frames = list(frames)
        await super().send(frames)
        if self._odd.trailing and any(each.startswith(_TERMINAL) for each in frames):
            await self.out(b"".join(self.dressed(each, hidden=False) for each in _TRAILING))

    async def document(self, headers: Mapping[str, str], content: bytes, *, status: int) -> web.StreamResponse:
        if self._odd.plain:
            return await super().document(headers, content, status=status)
        await self.open(headers, "application/json", status=status)
        await self.write(content)
        await self.finish()
        assert self.response is not None
        return self.response

    async def finish(self) -> None:
        await self._out(self._compress.end(), last=True)

    async def end(self) -> None:
        await asyncio.sleep(self._odd.linger_s)
        await super().end()

    async def out(self, content: bytes) -> None:
        if content:
            await self._out(self._compress.update(content), last=False)

    async def _out(self, piece: bytes, *, last: bool) -> None:
        chunk = self._odd.chunk
        if chunk == "event":
            await super().out(piece)
            return
        self._waiting += piece
        while self._waiting:
            size = self._dice.choice(_SIZES) if chunk == "random" else chunk
            if not isinstance(size, int):
                if not last:
                    return
                size = len(self._waiting)
            part = bytes(self._waiting[:size])
            del self._waiting[:size]
            await super().out(part)
            # Each is to arrive by itself.
            await asyncio.sleep(0)

    def dressed(self, frame: bytes, *, hidden: bool) -> bytes:
        if self._odd.noise:
            # A byte order mark may begin a stream.
            mark = b"\xef\xbb\xbf" if self._first else b""
            frame = mark + (b"" if hidden else self._noise()) + self._odd_form(frame)
        self._first = False
        return frame.replace(b"\n", LINES[self._odd.lines]) if self._odd.lines != "lf" else frame

    def _noise(self) -> bytes:
        """Return what may be between events."""
        # Looks like a bill, and is none.
        bill = b'{"type":"muster.unheard_of","usage":{"input_tokens":9,"output_tokens":9}}'
        unknown = b"event: muster.unheard_of\ndata: " + bill + b"\n\n"
        if self._api == "anthropic":
            ping = b'event: ping\ndata: {"type": "ping"}\n\n'
        else:
            ping = b": ping\n\n"
            if self._api == "chat":
                unknown = b'data: {"object":"muster.unheard_of","note":"\xf0\x9f\x99\x82"}\n\n'
        return self._dice.choice((b"", b"", b":\n", b": a comment\n\n", b"\n", b"retry: 3000\n\n", ping, unknown))

    def _odd_form(self, frame: bytes) -> bytes:
        """Return the same event, written in another way that means the same (WHATWG HTML, section 9.2)."""
        match self._dice.randrange(5):
            case 0:
                return frame.replace(b"data: ", b"data:", 1)
            case 1:
                return b"id: 7\n" + frame
            case 2 if b"data: {" in frame:
                return frame.replace(b"data: {", b"data: {\ndata: ", 1)
            case 3:
                return frame[:-1] + b"unknown: field\n\n"
        return frame


class _Compressor(Protocol):
    def update(self, content: bytes) -> bytes: ...
    def end(self) -> bytes: ...


class _Plain:
    def update(self, content: bytes) -> bytes:
        return content

    def end(self) -> bytes:
        return b""


class _Zlib:
    def __init__(self, window: int) -> None:
        self._way = zlib.compressobj(wbits=window)

    def update(self, content: bytes) -> bytes:
        # What was said must be readable before more is.
        return self._way.compress(content) + self._way.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._way.flush()


class _Brotli:
    def __init__(self) -> None:
        self._way = brotli.Compressor(quality=1)

    def update(self, content: bytes) -> bytes:
        piece: bytes = self._way.process(content) + self._way.flush()
        return piece

    def end(self) -> bytes:
        piece: bytes = self._way.finish()
        return piece


class _Zstandard:
    def __init__(self) -> None:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        self._way = zstd.ZstdCompressor()

    def update(self, content: bytes) -> bytes:
        return self._way.compress(content, self._way.FLUSH_BLOCK)

    def end(self) -> bytes:
        return self._way.flush(self._way.FLUSH_FRAME)


def _compressor(encoding: Encoding | None) -> _Compressor:
    match encoding:
        case "gzip":
            return _Zlib(31)
        case "deflate":
            return _Zlib(15)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstandard()
    return _Plain()
