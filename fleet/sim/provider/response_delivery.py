"""How an answer's bytes travel: in which chunks, compressed or not, with which line ends and what between the events.

All of it is legal, or was seen: clients and proxies must take it. What was sent is counted before it is compressed, so
that it can be compared with what arrived.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import brotli
from aiohttp import web

from fleet.sim.provider.normalized_request import Api
from fleet.sim.provider.usage_report import Kind

Encoding: TypeAlias = Literal["gzip", "deflate", "br", "zstd"]
Lines: TypeAlias = Literal["lf", "crlf", "cr"]

ENCODINGS: tuple[Encoding, ...] = ("gzip", "deflate", "br", "zstd")
LINES: Mapping[Lines, bytes] = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}
_USAGE_ALONE = (b'"choices":[],"usage":{', b'"choices":null,"usage":{')
_SIZES = (1, 2, 3, 7, 40, 300, 3_000)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseDelivery:
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
    cache: tuple[int, int] | None = None
    """So many tokens of the input were read from a cache, and written to one."""

    @property
    def plain(self) -> bool:
        """A document can go as it always does."""
        return self.encoding is None and self.chunk == "event" and not self.linger_s


class ResponseBody:
    """The body of one response on its way to the client."""

    def __init__(self, http: web.Request, delivery: ResponseDelivery, api: Api, dice: random.Random) -> None:
        self._http, self._delivery, self._api, self._dice = http, delivery, api, dice
        self._compress = _compressor(delivery.encoding)
        self._response: web.StreamResponse | None = None
        self._waiting = bytearray()
        self._first = True
        self._content, self._visible = hashlib.sha256(), hashlib.sha256()
        self.sent = 0
        """Bytes of content, before compression."""

    @property
    def response(self) -> web.StreamResponse | None:
        return self._response

    @property
    def digest(self) -> str:
        """Of all content, SHA-256, hexadecimal."""
        return self._content.hexdigest()

    @property
    def visible_digest(self) -> str:
        """The same without the chunk of usage that a Chat Completions stream has only where it was asked for."""
        return self._visible.hexdigest()

    async def open(
        self, headers: Mapping[str, str], content_type: str, *, status: int = 200, length: int | None = None
    ) -> None:
        """Send the head. `length`: what Content-Length says; None: chunked."""
        said = {**headers, "Content-Type": content_type}
        if self._delivery.encoding is not None and not self._delivery.unsaid:
            said["Content-Encoding"] = self._delivery.encoding
        self._response = web.StreamResponse(status=status, headers=said)
        self._response.content_length = length
        await self._response.prepare(self._http)

    async def send(self, frames: Iterable[bytes], *, behind: bool = False) -> None:
        """Send server-sent events, each with its blank line. `behind`: they follow the end, and are not counted."""
        pieces = []
        for frame in frames:
            hidden = self._api == "chat" and any(mark in frame for mark in _USAGE_ALONE)
            pieces.append(self._dressed(frame, among=not hidden))
            if not behind:
                self._count(pieces[-1], hidden=hidden)
        if content := b"".join(pieces):
            await self._out(self._compress.update(content), last=False)

    async def write(self, content: bytes) -> None:
        """Content as it is."""
        self._count(content)
        await self._out(self._compress.update(content), last=False)

    async def finish(self) -> None:
        """Everything out; the end of the body is not said yet."""
        await self._out(self._compress.end(), last=True)

    def count(self, content: bytes) -> None:
        """This was sent by another way."""
        self._count(content)

    def _count(self, content: bytes, *, hidden: bool = False) -> None:
        self.sent += len(content)
        self._content.update(content)
        if not hidden:
            self._visible.update(content)

    async def _out(self, piece: bytes, *, last: bool) -> None:
        response, chunk = self._response, self._delivery.chunk
        assert response is not None
        if chunk == "event":
            if piece:
                await response.write(piece)
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
            await response.write(part)
            # Each is to arrive by itself.
            await asyncio.sleep(0)

    def _dressed(self, frame: bytes, *, among: bool) -> bytes:
        delivery = self._delivery
        if delivery.noise:
            # A byte order mark may begin a stream.
            mark = b"\xef\xbb\xbf" if self._first else b""
            frame = mark + (self._noise() if among else b"") + self._odd(frame)
        self._first = False
        return frame.replace(b"\n", LINES[delivery.lines]) if delivery.lines != "lf" else frame

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

    def _odd(self, frame: bytes) -> bytes:
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
