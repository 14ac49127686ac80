"""Where events end, whatever the line ends and however the bytes arrive."""

from __future__ import annotations

import random
import time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from egress.usage.sse_splitter import PieceKind, Splitter, fields
from tests.egress.usage.streams import cut

#: The bytes that mean something, and some that mean nothing.
BYTES = st.lists(
    st.sampled_from(
        [
            b"\r",
            b"\n",
            b"\r\n",
            b":",
            b" ",
            b"data",
            b"event",
            b"data: ",
            b"x",
            b"\xc3",
            b"\xa9",
            b"\xef\xbb\xbf",
            b"\x00",
        ]
    ),
    max_size=60,
).map(b"".join)
PLACES = st.lists(st.integers(min_value=0, max_value=200), max_size=30)


def spelled_out(source: bytes) -> list[tuple[bytes, bytes]]:
    """The events of a stream that has them all, as the standard tells it: line by line."""
    lines = source.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    found, name, data = [], b"", list[bytes]()
    for line in lines[:-1]:
        if not line:
            if data or name:
                found.append((name, b"\n".join(data)))
            name, data = b"", []
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return found


@settings(max_examples=150, deadline=None)
@given(BYTES, PLACES, st.sampled_from([5, 20, 1000]))
@example(b"data\n\r\nx", [6], 5)
@example(b"\r:", [1], 5)
@example(b"\xef\xbb\xbfdata\r\r\n", [1, 2, 8], 1000)
def test_any_chunks_of_the_same_bytes_are_the_same_events(source: bytes, places: list[int], whole: int) -> None:
    def run(chunks: list[bytes]) -> tuple[list[bytes], bytes, bytes]:
        splitter = Splitter(whole)
        pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
        events = [piece for kind, piece in pieces if kind is PieceKind.EVENT]
        return events, b"".join(piece for _, piece in pieces), splitter.drain()

    at_once, chunked = run([source]), run(list(cut(source, places)))
    assert chunked == at_once
    assert at_once[1] + at_once[2] == source


@settings(max_examples=150, deadline=None)
@given(BYTES)
def test_the_events_are_those_of_the_standard(source: bytes) -> None:
    splitter = Splitter()
    found = [fields(piece) for kind, piece in splitter.feed(source) if kind is PieceKind.EVENT]
    assert [one for one in found if any(one)] == [one for one in spelled_out(source) if any(one)]


def test_comments_and_blank_lines_go_on_before_an_event_comes() -> None:
    splitter = Splitter()
    assert list(splitter.feed(b": still here\n")) == [(PieceKind.IDLE, b": still here\n")]
    assert list(splitter.feed(b"\n")) == [(PieceKind.IDLE, b"\n")]
    assert list(splitter.feed(b"data: x\n")) == []


def test_an_event_that_ends_in_cr_is_not_waited_for() -> None:
    splitter = Splitter()
    assert list(splitter.feed(b"data: x\r\r")) == [(PieceKind.EVENT, b"data: x\r\r")]


def test_single_bytes_cost_no_more_the_longer_an_event_grows() -> None:
    """No time is asserted: looked at again and again, two million bytes would take hours."""
    splitter = Splitter(whole=4_000_000)
    source = b"data: " + b"x\n: y" * 100_000
    began = time.process_time()
    for place in range(len(source)):
        assert not list(splitter.feed(source[place : place + 1]))
    print(f"{time.process_time() - began:.2f} s for {len(source)} bytes")
    (event,) = splitter.feed(b"\n\n")
    assert event == (PieceKind.EVENT, source + b"\n\n")


def test_nothing_is_lost_around_the_largest_size_of_an_event() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for size in range(90, 112):
        source = b"data: " + b"x" * (size - 8) + b"\n\n" + b"data: [DONE]\n\n"
        splitter = Splitter(whole=100)
        pieces = [
            piece for chunk in cut(source, [dice.randrange(130) for _ in range(5)]) for piece in splitter.feed(chunk)
        ]
        assert b"".join(piece for _, piece in pieces) == source
        assert pieces[-1] == (PieceKind.EVENT, b"data: [DONE]\n\n")
        assert (pieces[0][0] is PieceKind.EVENT) == (size <= 100)
