"""The end of a journal while it is followed, and the pages before it, whatever the length of its entries."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bot.agents.journal import conversation
from bot.agents.journal.conversation import Conversation, position_of, read_before
from fleet.journal import reader
from fleet.journal.events import JournalEntry, JournalPosition, TextChunk


def write(folder: Path, incarnation: int, seq: int, length: int) -> JournalEntry:
    (folder / "journal").mkdir(exist_ok=True)
    entry = JournalEntry(
        position=JournalPosition(incarnation, seq), at=1.0, event=TextChunk(turn="t", text="x" * length)
    )
    with reader.path_of(folder, incarnation).open("ab") as file:
        file.write(reader.encode(entry))
    return entry


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_is_bounded_and_older_pages_have_the_rest(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(conversation, "PAGE", draw.choice([3, 10, 1_000]))
    monkeypatch.setattr(conversation, "PAGE_BYTES", draw.choice([500, 5_000, 10**9]))
    followed = Conversation(tmp_path)
    assert followed.read() == ((), None)
    everything: list[JournalEntry] = []
    for incarnation in range(1, draw.randint(2, 4)):
        for seq in range(1, draw.randint(2, 30)):
            everything.append(write(tmp_path, incarnation, seq, draw.choice([1, 50, 2_000])))
            if draw.random() < 0.3:
                followed.read()
    entries, before = followed.read()
    assert list(entries) == everything[-len(entries) :]
    assert len(entries) <= conversation.PAGE
    sizes = [len(reader.encode(entry)) - 1 for entry in entries]
    assert len(sizes) == 1 or sum(sizes) <= conversation.PAGE_BYTES
    assert Conversation(tmp_path).read() == (entries, before), "it does not matter when it began to look"
    found = list(entries)
    while before is not None:
        position = position_of(before)
        assert position is not None
        page, before = read_before(tmp_path, position)
        found = [*page, *found]
    assert found == everything


@pytest.mark.parametrize("place", ["", "1", "1:", ":1", "1:1:1", "-1:1", "1:1 ", "a:b", "9" * 30 + ":1"])
def test_what_is_no_place_is_none(place: str) -> None:
    assert position_of(place) is None
