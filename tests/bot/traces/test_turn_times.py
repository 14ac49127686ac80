"""When turns began and ended, by journals of real agent hosts' writers."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.traces import turn_times
from fleet.journal import reader
from fleet.journal.events import Event, JournalEntry, JournalPosition, MessageQueued, TextChunk, TurnEnded, TurnStarted


def write(folder: Path, incarnation: int, *events: tuple[float, Event], torn: bytes = b"") -> None:
    path = reader.path_of(folder, incarnation)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        reader.encode(JournalEntry(position=JournalPosition(incarnation, seq), at=at, event=event))
        for seq, (at, event) in enumerate(events, start=1)
    ]
    path.write_bytes(b"".join(lines) + torn)


def turn(number: int, at: float, *, words: int = 0) -> list[tuple[float, Event]]:
    """A turn of eight seconds that waited for two."""
    name, message = f"1-{number}", f"m{number}"
    return [
        (at, MessageQueued(id=message, text='"kind":"turn_ended"')),
        (at + 2, TurnStarted(turn=name, message=message, session="s")),
        *[(at + 3, TextChunk(turn=name, text='"kind":"turn_started" and words'))] * words,
        (at + 10, TurnEnded(turn=name, message=message, stop_reason="end_turn")),
    ]


def test_times_of_several_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_times, "LINES", 7)
    events = [entry for number in range(1, 20) for entry in turn(number, number * 100.0, words=number)]
    write(tmp_path, 1, *events)
    found = turn_times.read(tmp_path, {"m2", "m19"}, since=200.0)
    assert {name: (times.queued_at, times.started_at, times.ended_at) for name, times in found.items()} == {
        "m2": (200.0, 202.0, 210.0),
        "m19": (1900.0, 1902.0, 1910.0),
    }
    assert found["m2"].session == "s"
    assert found["m2"].stop_reason == "end_turn"


def test_a_turn_that_was_cut_ends_in_the_next_journal(tmp_path: Path) -> None:
    write(tmp_path, 1, *turn(1, 100.0)[:-1], torn=b'{"incarnation":1,"seq":')
    write(tmp_path, 2, (300.0, TurnEnded(turn="1-1", message="m1", stop_reason="cut")))
    times = turn_times.read(tmp_path, {"m1"}, since=100.0)["m1"]
    assert (times.started_at, times.ended_at, times.stop_reason) == (102.0, 300.0, "cut")


def test_a_journal_that_is_gone_or_damaged_tells_nothing(tmp_path: Path) -> None:
    assert turn_times.read(tmp_path / "nobody", {"m1"}, since=0.0) == {}
    path = reader.path_of(tmp_path, 1)
    path.parent.mkdir()
    path.write_bytes(b"garbage\n" * 10)
    assert turn_times.read(tmp_path, {"m1"}, since=0.0) == {}


def test_reading_ends_at_what_is_older_than_the_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_times, "LINES", 4)
    asked: list[JournalPosition | None] = []
    last_lines = reader.last_lines

    def counted(folder: Path, count: int, *, before: JournalPosition | None, most_bytes: int | None) -> list[bytes]:
        asked.append(before)
        return last_lines(folder, count, before=before, most_bytes=most_bytes)

    monkeypatch.setattr(reader, "last_lines", counted)
    write(tmp_path, 1, *[entry for number in range(1, 100) for entry in turn(number, number * 100.0)])
    assert turn_times.read(tmp_path, {"unknown"}, since=9_800.0) == {}
    assert len(asked) < 5
