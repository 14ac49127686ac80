import itertools
import random

import pytest

from bot.gateway_feed.server_sent_events import BrokenStream, EventReader, StreamEvent

_WRITTEN = (
    b': keep-alive\n\nevent: document\nid: e:1\ndata: {"a":1}\n\n'
    b"event: document\r\nid: e:2\r\ndata: one\r\ndata: two\r\n\r\nid: e:3\n\n: x\n\ndata:bare\n\n"
)
_READ = [
    StreamEvent(kind="document", id="e:1", data='{"a":1}'),
    StreamEvent(kind="document", id="e:2", data="one\ntwo"),
    StreamEvent(kind="message", id="e:3", data="bare"),
]


def test_events_are_the_same_however_they_are_cut() -> None:
    seed = random.randrange(1_000_000)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(50):
        reader, read = EventReader(), []
        rest = _WRITTEN
        while rest:
            size = rng.randint(1, 9)
            read += reader.feed(rest[:size])
            rest = rest[size:]
        assert read == _READ
        assert not reader.is_inside


def test_half_an_event_is_none() -> None:
    reader = EventReader()
    assert reader.feed(b"event: document\ndata: {}\n") == []
    assert reader.is_inside


@pytest.mark.parametrize("piece", [b"x" * 10, b"data: x\n"])
def test_an_endless_event_is_refused(piece: bytes) -> None:
    reader = EventReader(longest=1_000)
    with pytest.raises(BrokenStream, match="longer than 1,000 bytes"):
        list(map(reader.feed, itertools.repeat(piece, 1_000)))


def test_endless_comments_need_no_memory() -> None:
    reader = EventReader(longest=100)
    for _ in range(1_000):
        assert reader.feed(b": keep-alive\n\n") == []


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(BrokenStream, match="UTF-8"):
        EventReader().feed(b"data: \xff\n")
