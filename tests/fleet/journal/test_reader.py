from __future__ import annotations

import random
from pathlib import Path

import pytest

from fleet.journal import reader as journal
from fleet.journal.events import JournalEntry, JournalPosition, MessageQueued, Opened, TextChunk
from fleet.journal.reader import Durable, JournalCursor, JournalReader

START = JournalPosition()


def opened(incarnation: int) -> JournalEntry:
    event = Opened(agent="a", launch_id="l", marker="m", pid=1, protocol=1)
    return JournalEntry(position=JournalPosition(incarnation, 1), at=1.0, event=event)


def text(incarnation: int, seq: int) -> JournalEntry:
    return JournalEntry(
        position=JournalPosition(incarnation, seq), at=2.0, event=TextChunk(turn="t", text=f"{incarnation}.{seq}")
    )


def write(folder: Path, *entries: JournalEntry, tail: bytes = b"") -> None:
    (folder / "journal").mkdir(exist_ok=True)
    for entry in entries:
        with journal.path_of(folder, entry.position.incarnation).open("ab") as file:
            file.write(journal.encode(entry))
    if tail:
        with journal.path_of(folder, entries[-1].position.incarnation).open("ab") as file:
            file.write(tail)


def positions(entries: list[JournalEntry]) -> list[tuple[int, int]]:
    return [(entry.position.incarnation, entry.position.seq) for entry in entries]


def test_no_journal_has_no_entries(tmp_path: Path) -> None:
    assert journal.read(tmp_path, START) == []
    assert journal.read_last(tmp_path, 5) == []
    assert journal.last_entry(tmp_path) is None


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    queued = MessageQueued(id="m", text="a\nb\u2028\U0001f600é", images=("x",))
    entries = [opened(1), JournalEntry(position=JournalPosition(1, 2), at=3.5, event=queued)]
    write(tmp_path, *entries)
    assert journal.read(tmp_path, START) == entries


def test_reading_begins_after_the_position_and_goes_over_to_later_incarnations(tmp_path: Path) -> None:
    write(tmp_path, opened(1), text(1, 2), text(1, 3), opened(4), text(4, 2))
    assert positions(journal.read(tmp_path, JournalPosition(1, 2))) == [(1, 3), (4, 1), (4, 2)]
    assert positions(journal.read(tmp_path, JournalPosition(2, 9))) == [(4, 1), (4, 2)]
    assert positions(journal.read(tmp_path, START, 2)) == [(1, 1), (1, 2)]
    assert journal.read(tmp_path, JournalPosition(4, 2)) == []


@pytest.mark.parametrize(
    "tail",
    [
        b'{"incarnation":1,"seq":3,"at"',
        b"\0\0\0\0",
        b"\n",
        b'{"incarnation":1,"seq":3,"at":1,"kind":"text","turn":"t","text":"torn"}',
        b'garbage\n{"incarnation":1,"seq":3,"at":1,"kind":"text","turn":"t","text":"behind garbage"}\n',
    ],
)
def test_a_torn_tail_is_not_read_and_hides_nothing_later(tmp_path: Path, tail: bytes) -> None:
    write(tmp_path, opened(1), text(1, 2), tail=tail)
    assert positions(journal.read(tmp_path, START)) == [(1, 1), (1, 2)]
    write(tmp_path, opened(2), text(2, 2))
    assert positions(journal.read(tmp_path, START)) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_file_without_a_whole_entry_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, opened(1))
    journal.path_of(tmp_path, 2).write_bytes(b'{"incarn')
    write(tmp_path, opened(3))
    assert positions(journal.read(tmp_path, START)) == [(1, 1), (3, 1)]


def test_a_cursor_reads_each_line_once_and_only_what_is_durable(tmp_path: Path) -> None:
    write(tmp_path, opened(1), text(1, 2))
    size = journal.path_of(tmp_path, 1).stat().st_size
    write(tmp_path, text(1, 3))
    cursor = JournalCursor(tmp_path, START)
    assert len(cursor.read(2**20, Durable(1, size))) == 2
    assert cursor.read(2**20, Durable(1, size)) == []
    write(tmp_path, opened(2))
    rest = cursor.read(2**20, Durable(2, journal.path_of(tmp_path, 2).stat().st_size))
    assert positions(list(journal.decode(rest))) == [(1, 3), (2, 1)]
    assert cursor.read(2**20) == []


def test_a_cursor_in_small_bites_reads_the_same(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    entries = []
    for incarnation in range(1, 6):
        entries += [opened(incarnation), *(text(incarnation, seq) for seq in range(2, rng.randrange(2, 30)))]
    write(tmp_path, *entries)
    start = rng.choice(entries).position
    cursor = JournalCursor(tmp_path, start)
    read: list[JournalEntry] = []
    while lines := cursor.read(rng.randrange(1, 500)):
        read += journal.decode(lines)
    assert read == [entry for entry in entries if entry.position > start]


def test_a_reader_pages_on_and_sees_what_is_added(tmp_path: Path) -> None:
    entries = [opened(1), *(text(1, seq) for seq in range(2, 11))]
    write(tmp_path, *entries)
    reader = JournalReader(tmp_path)
    read: list[JournalEntry] = []
    after = START
    while page := reader.read(after, 3):
        assert len(page) <= 3
        read += page
        after = page[-1].position
    assert read == entries
    write(tmp_path, text(1, 11))
    assert positions(reader.read(after, 3)) == [(1, 11)]
    assert positions(reader.read(JournalPosition(1, 9), 3)) == [(1, 10), (1, 11)]


def test_the_last_entries_may_lie_in_several_files(tmp_path: Path) -> None:
    write(tmp_path, opened(1), text(1, 2), opened(2), text(2, 2), tail=b"torn")
    assert positions(journal.read_last(tmp_path, 3)) == [(1, 2), (2, 1), (2, 2)]
    last = journal.last_entry(tmp_path)
    assert last is not None
    assert last.position == JournalPosition(2, 2)


@pytest.mark.parametrize("seed", range(12))
def test_the_last_entries_are_those_that_reading_from_the_beginning_finds(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read from their ends in blocks; lines lie across the blocks."""
    draw = random.Random(seed)
    monkeypatch.setattr(journal, "BLOCK", draw.choice([1, 7, 64, 1000]))
    for incarnation in range(1, draw.randint(2, 5)):
        entries = [opened(incarnation), *(text(incarnation, seq) for seq in range(2, draw.randint(2, 30)))]
        write(tmp_path, *entries, tail=draw.choice([b"", b"torn", b'{"incarnation": 1, "seq": 99,']))
    everything = [entry for page in journal.pages(tmp_path, START) for entry in page]
    for count in (1, 2, 10, 1000):
        assert journal.read_last(tmp_path, count) == everything[-count:]
        place = draw.choice(everything).position
        earlier = [entry for entry in everything if entry.position < place]
        assert list(journal.decode(journal.last_lines(tmp_path, count, before=place))) == earlier[-count:]
        room = draw.randint(1, 2_000)
        few = journal.last_lines(tmp_path, count, most_bytes=room)
        assert list(journal.decode(few)) == everything[-len(few) :]
        assert len(few) == 1 or sum(map(len, few)) <= room


def test_only_whole_entries_from_a_damaged_file(tmp_path: Path) -> None:
    write(tmp_path, opened(1), text(1, 2), tail=b"damage\n")
    write(tmp_path, text(1, 3))
    assert positions(journal.read_last(tmp_path, 5)) == [(1, 1), (1, 2)]


def test_pruning_keeps_what_was_not_read_and_the_newest(tmp_path: Path) -> None:
    for incarnation in range(1, 6):
        write(tmp_path, opened(incarnation))
    assert journal.prune(tmp_path, JournalPosition(5, 1), keep_bytes=10**6) == []
    assert [path.name for path in journal.prune(tmp_path, JournalPosition(3, 1), keep_bytes=0)] == [
        "00000001.jsonl",
        "00000002.jsonl",
    ]
    journal.prune(tmp_path, JournalPosition(99, 1), keep_bytes=0)
    assert journal.incarnations(tmp_path) == [5]
