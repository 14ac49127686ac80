"""Compressed responses, undone while they stream."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Iterable

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egress.request.content_encoding import PIECE, BadEncoding, decoder
from tests.egress.usage.streams import cut

zstd = pytest.importorskip("backports.zstd")


def raw_deflate(source: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packing.compress(source) + packing.flush()


def brotlied(source: bytes) -> bytes:
    packed: bytes = brotli.compress(source, quality=3)
    return packed


def zstandard(source: bytes) -> bytes:
    packed: bytes = zstd.compress(source)
    return packed


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "zlib": ("deflate", zlib.compress),
    "bare deflate": ("deflate", raw_deflate),
    "brotli": ("br", brotlied),
    "zstd": ("zstd", zstandard),
    "one on the other": ("gzip, br", lambda source: brotlied(gzip.compress(source))),
    "three of them": ("zstd,deflate , gzip", lambda source: gzip.compress(zlib.compress(zstandard(source)))),
    "gzip, unsaid": ("", gzip.compress),
    "zstd, unsaid": ("identity", zstandard),
    "gzip that is called brotli": ("br", gzip.compress),
    "two members": ("gzip", lambda source: gzip.compress(source[:9]) + gzip.compress(source[9:])),
    "two frames": ("zstd", lambda source: zstandard(source[:9]) + zstandard(source[9:])),
    "padded": ("gzip", lambda source: gzip.compress(source) + bytes(100)),
    "plain": ("", bytes),
    "plain that is called gzip": ("gzip", bytes),
    "plain that is called brotli": ("br", bytes),
    "plain that is called deflate": ("deflate", bytes),
    "plain that is called zstd": ("zstd", bytes),
}
STREAM = b'event: ping\ndata: {"type": "ping", "note": "\xf0\x9f\x99\x82"}\n\n' * 40


def undone(label: str | None, chunks: Iterable[bytes]) -> list[bytes]:
    way = decoder(label)
    return [piece for chunk in chunks for piece in way.feed(chunk)] + list(way.end())


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("source", [STREAM, b'{"a": 1}' * 20_000], ids=["stream", "document"])
def test_what_was_packed_is_undone(kind: str, source: bytes) -> None:
    label, pack = PACKED[kind]
    packed = pack(source)
    pieces = undone(label, [packed])
    assert b"".join(pieces) == source
    assert max(map(len, pieces)) <= PIECE


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(list(PACKED)), st.lists(st.integers(0, 3_000), max_size=30) | st.just(list(range(3_000))))
def test_however_it_is_cut(kind: str, places: list[int]) -> None:
    label, pack = PACKED[kind]
    assert b"".join(undone(label, cut(pack(STREAM), places))) == STREAM


@pytest.mark.parametrize("label", [None, "", "gzip", "br", "deflate", "zstd", "identity"])
def test_no_content_at_all_is_whole(label: str | None) -> None:
    assert undone(label, []) == []


@pytest.mark.parametrize("label", ["gzip", "br", "deflate", "zstd", ""])
def test_short_content_that_is_plain_comes_out_at_its_end(label: str) -> None:
    assert b"".join(undone(label, [b"{", b"}"])) == b"{}"


def test_plain_content_does_not_wait_for_more() -> None:
    assert b"".join(decoder(None).feed(b"d")) == b"d"


@pytest.mark.parametrize("kind", [kind for kind in PACKED if "plain" not in kind and kind != "padded"])
def test_what_ends_in_the_middle_is_not_taken_for_whole(kind: str) -> None:
    label, pack = PACKED[kind]
    with pytest.raises(BadEncoding, match="ends in the middle"):
        undone(label, [pack(STREAM)[:-1]])


@pytest.mark.parametrize("kind", ["gzip", "zlib", "brotli", "zstd"])
def test_a_stream_comes_out_as_far_as_it_was_flushed(kind: str) -> None:
    ways = {
        "gzip": zlib.compressobj(wbits=31),
        "zlib": zlib.compressobj(),
        "brotli": brotli.Compressor(quality=1),
        "zstd": zstd.ZstdCompressor(),
    }
    pack = ways[kind]
    first = pack.process(STREAM) + pack.flush() if kind == "brotli" else pack.compress(STREAM)
    if kind in {"gzip", "zlib"}:
        first += pack.flush(zlib.Z_SYNC_FLUSH)
    elif kind == "zstd":
        first += pack.flush(zstd.ZstdCompressor.FLUSH_BLOCK)
    assert b"".join(decoder(PACKED[kind][0]).feed(first)) == STREAM


@pytest.mark.parametrize("kind", ["gzip", "zlib", "brotli", "zstd", "one on the other"])
def test_a_bomb_never_stands_in_memory_as_a_whole(kind: str) -> None:
    label, pack = PACKED[kind]
    size = 64 * 2**20
    packed = pack(bytes(size))
    tracemalloc.start()
    try:
        way, found = decoder(label), 0
        for piece in way.feed(packed):
            assert len(piece) <= PIECE
            found += len(piece)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    list(way.end())
    assert found == size
    assert most < 2 * 2**20


@pytest.mark.parametrize("label", ["gzip", "br", "deflate", "zstd", ""])
@settings(max_examples=40, deadline=None)
@given(
    st.binary(min_size=1, max_size=200), st.sampled_from([b"", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"\x78\x9c"])
)
def test_garbage_is_told_or_passed_and_nothing_else(label: str, garbage: bytes, magic: bytes) -> None:
    with contextlib.suppress(BadEncoding):
        assert max(map(len, undone(label, [magic + garbage[:20], garbage[20:]])), default=0) <= PIECE


@pytest.mark.parametrize("label", ["compress", "gzip, aes128gcm", "gzip," * 3 + "gzip"])
def test_what_is_not_known_is_told(label: str) -> None:
    with pytest.raises(BadEncoding, match="encoded"):
        decoder(label)
