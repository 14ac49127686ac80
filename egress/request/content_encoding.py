"""Streaming decoders of content encodings (RFC 9110, section 8.4; RFC 8878 and 9659 for zstd).

The egress asks providers for no encoding. Some compress anyway, some do not label it, and some label plain content as
encoded. So the first bytes decide, whatever the label is. Output comes in pieces of at most PIECE bytes, so that a
small input that expands to gigabytes is never in memory as a whole.
"""

from __future__ import annotations

import sys
import zlib
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

from collections.abc import Callable, Iterator

from core.errors import MusterError

PIECE = 64 * 1024
_MOST_LAYERS = 3
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
"""Follows a first byte of 0x50 to 0x5f."""
_WINDOW_LOG = 23
"""RFC 9659: a zstd window in HTTP is at most 8 MiB."""
_PEEK = 16
_TEXT_STARTS = (b"{", b"[", b"data:", b"event:", b"id:", b"retry:", b":", b" ", b"\n", b"\r")


class BadEncoding(MusterError):
    """The content does not match its declared encoding."""


class Decoder(Protocol):
    """A decoder. It must not be used again after BadEncoding."""

    def feed(self, content: bytes) -> Iterator[bytes]:
        """Decode these bytes. The iterator must be exhausted before the next call.

        Raises:
            BadEncoding: they cannot be decoded.
        """
        ...

    def end(self) -> Iterator[bytes]:
        """Yield the rest at the end of the content. If the iterator ends without an error, the content was complete.

        Raises:
            BadEncoding: the content was incomplete.
        """
        ...


def decoder(content_encoding: str | None) -> Decoder:
    """Return a decoder for a Content-Encoding header; without one, the first bytes decide.

    Raises:
        BadEncoding: an encoding is unknown, or there are too many layers.
    """
    names = [name.strip().lower() for name in (content_encoding or "").split(",")]
    names = [name for name in names if name and name != "identity"]
    if len(names) > _MOST_LAYERS:
        raise BadEncoding(f"the response is encoded {len(names)} times over; at most {_MOST_LAYERS} are undone.")
    for name in names:
        if name not in _KNOWN:
            # The message omits the name: text from a provider is not repeated.
            raise BadEncoding(f"the response is encoded in a way that is not known here; {', '.join(_KNOWN)} are.")
    if not names:
        return _Sniffing("identity")
    layers: list[Decoder] = [_Sniffing(name) for name in reversed(names)]
    return layers[0] if len(layers) == 1 else _Layers(layers)


class _Sniffing:
    """Checks the first bytes before it trusts the label."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._inner: Decoder | None = None
        self._first = b""

    def feed(self, content: bytes) -> Iterator[bytes]:
        if self._inner is None:
            self._first += content
            if not self._known(self._first):
                return
            self._inner, content = _by(self._label, self._first), self._first
            self._first = b""
        yield from self._inner.feed(content)

    def end(self) -> Iterator[bytes]:
        if self._inner is None:
            if not self._first:
                return  # no content at all is no broken content: HEAD, 204, an empty body
            self._inner = _by(self._label, self._first)
            yield from self._inner.feed(self._first)
        yield from self._inner.end()

    def _known(self, first: bytes) -> bool:
        """Return whether these bytes suffice to decide."""
        if len(first) >= _PEEK:
            return True
        return self._label == "identity" and not _begins(first)


def _begins(first: bytes) -> bool:
    """Return whether these bytes may be the start of a binary format."""
    for magic in (_GZIP, _ZSTD):
        if magic.startswith(first[: len(magic)]):
            return True
    return first[:1] != b"" and 0x50 <= first[0] <= 0x5F and _ZSTD_SKIPPABLE.startswith(first[1:4])


def _by(label: str, first: bytes) -> Decoder:
    if first.startswith(_GZIP):
        return _Gzip()
    if first.startswith(_ZSTD) or (0x50 <= first[0] <= 0x5F and first[1:4] == _ZSTD_SKIPPABLE):
        return _Zstd()
    if label == "deflate" and not _is_text(first):
        # RFC 9110 means zlib's format; some servers send a raw deflate stream.
        zlib_header = first[0] & 0x0F == 8 and len(first) > 1 and int.from_bytes(first[:2], "big") % 31 == 0
        return _Deflate(zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS)
    if label == "br" and not _is_text(first):
        return _Brotli()
    return _Plain()


def _is_text(first: bytes) -> bool:
    """Return whether the content is plain despite its label: it starts like JSON or an event stream, in ASCII only."""
    start = first[:_PEEK]
    return start.startswith(_TEXT_STARTS) and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in start)


class _Plain:
    def feed(self, content: bytes) -> Iterator[bytes]:
        if len(content) <= PIECE:
            yield content
            return
        for place in range(0, len(content), PIECE):
            yield content[place : place + PIECE]

    def end(self) -> Iterator[bytes]:
        yield from ()


class _Layers:
    """Nested encodings, the outermost first."""

    def __init__(self, layers: list[Decoder]) -> None:
        self._layers = layers

    def feed(self, content: bytes) -> Iterator[bytes]:
        yield from self._through(0, self._layers[0].feed(content))

    def end(self) -> Iterator[bytes]:
        for depth, layer in enumerate(self._layers):
            yield from self._through(depth, layer.end())

    def _through(self, depth: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if depth + 1 == len(self._layers):
                yield piece
            else:
                yield from self._through(depth + 1, self._layers[depth + 1].feed(piece))


class _Deflate:
    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)

    def feed(self, content: bytes) -> Iterator[bytes]:
        while not self._inflate.eof:
            try:
                piece = self._inflate.decompress(content, PIECE)
            except zlib.error as error:
                raise BadEncoding(f"the response's compressed content cannot be read: {error}.") from None
            content = self._inflate.unconsumed_tail
            if piece:
                yield piece
            if not content and len(piece) < PIECE:
                return

    def end(self) -> Iterator[bytes]:
        yield from ()
        if not self._inflate.eof:
            raise BadEncoding("the response's compressed content ends in the middle.")


class _Gzip:
    """A sequence of members (RFC 1952, section 2.2). Data after the last is padding, and is dropped."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._between = b""
        """After a member, of what may be the head of the next: less than its magic."""
        self._over = False

    def feed(self, content: bytes) -> Iterator[bytes]:
        while not self._over:
            if self._inflate.eof:
                content, self._between = self._between + content, b""
                if len(content) < len(_GZIP) and _GZIP.startswith(content):
                    self._between = content
                    return
                if not content.startswith(_GZIP):
                    self._over = True
                    return
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                piece = self._inflate.decompress(content, PIECE)
            except zlib.error as error:
                raise BadEncoding(f"the response's gzip content cannot be read: {error}.") from None
            if piece:
                yield piece
            if self._inflate.eof:
                content = self._inflate.unused_data
                continue
            content = self._inflate.unconsumed_tail
            if not content and len(piece) < PIECE:
                return

    def end(self) -> Iterator[bytes]:
        yield from ()
        if not self._inflate.eof:
            raise BadEncoding("the response's gzip content ends in the middle.")


class _Brotli:
    def __init__(self) -> None:
        self._unfold = brotli.Decompressor()

    def feed(self, content: bytes) -> Iterator[bytes]:
        process: Callable[..., bytes] = self._unfold.process
        while not self._unfold.is_finished():
            try:
                piece = process(content, output_buffer_limit=PIECE)
            except brotli.error:
                raise BadEncoding("the response's brotli content cannot be read.") from None
            content = b""
            # The output may exceed the limit.
            for place in range(0, len(piece), PIECE):
                yield piece[place : place + PIECE]
            if len(piece) < PIECE and self._unfold.can_accept_more_data():
                return

    def end(self) -> Iterator[bytes]:
        yield from ()
        if not self._unfold.is_finished():
            raise BadEncoding("the response's brotli content ends in the middle.")


class _Zstd:
    """A sequence of frames (RFC 8878, section 3)."""

    def __init__(self) -> None:
        self._unfold = self._fresh()
        self._begun = False
        """There is something of a frame that has not ended."""

    def _fresh(self) -> ZstdDecompressor:
        return ZstdDecompressor(options={DecompressionParameter.window_log_max: _WINDOW_LOG})

    def feed(self, content: bytes) -> Iterator[bytes]:
        while True:
            if self._unfold.eof:
                self._unfold, self._begun = self._fresh(), False
            if not content and self._unfold.needs_input:
                return
            self._begun = True
            try:
                piece = self._unfold.decompress(content, max_length=PIECE)
            except ZstdError as error:
                raise BadEncoding(f"the response's zstd content cannot be read: {error}.") from None
            if piece:
                yield piece
            content = self._unfold.unused_data if self._unfold.eof else b""

    def end(self) -> Iterator[bytes]:
        yield from ()
        if self._begun and not self._unfold.eof:
            raise BadEncoding("the response's zstd content ends in the middle.")


_KNOWN = ("gzip", "x-gzip", "deflate", "br", "zstd")
