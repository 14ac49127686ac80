"""A journal from a backup: its queue does not begin by itself, and its numbers were never used."""

from __future__ import annotations

import time
from pathlib import Path

from fleet.host import restored_journal
from fleet.host.journal_fanout import load_state
from fleet.journal import reader
from fleet.journal.events import Event, JournalEntry, JournalPosition, MessageQueued, Opened, TurnStarted


def test_what_waited_is_uncertain_and_what_was_underway_is_known(tmp_path: Path) -> None:
    assert restored_journal.quiet(tmp_path, time.time()) is None
    events: list[Event] = [
        Opened(agent="imp", launch_id="l1", marker="m1", pid=7, protocol=1),
        MessageQueued(id="begun", text="first"),
        MessageQueued(id="waits", text="second"),
        TurnStarted(turn="t1", message="begun", session="s1"),
    ]
    (tmp_path / "journal").mkdir()
    entries = [
        JournalEntry(position=JournalPosition(3, seq), at=1.0, event=event) for seq, event in enumerate(events, start=1)
    ]
    reader.path_of(tmp_path, 3).write_bytes(b"".join(map(reader.encode, entries)) + b'{"torn": ')

    incarnation = restored_journal.quiet(tmp_path, 2.0)
    assert incarnation == 3 + restored_journal.LEAP
    assert restored_journal.LEAP >= 100_000
    state = load_state(tmp_path)
    assert state.queue == ()
    assert state.fates["waits"] == "uncertain"
    assert state.turn is not None, "the next agent host says what became of it"
    assert state.markers == ("m1",), "left-overs are still found"
    assert restored_journal.quiet(tmp_path, 3.0) == incarnation + restored_journal.LEAP
