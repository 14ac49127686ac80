"""An agent that falls is tried again after 1, 2, 4, ... seconds, and given up where that helps nothing."""

from __future__ import annotations

import json

import pytest

from fleet.runtimes import RUNTIMES
from fleet.supervision.restart_policy import (
    FOR_A_PERSON,
    TOO_OFTEN,
    Fall,
    RestartRecord,
    after,
    asked_for,
    due,
    is_over,
    needs_a_person,
    pause,
    tried,
    try_id,
)


def falling(*times: float, ready: float | None = None) -> RestartRecord:
    """The record of an agent that fell at these times, each time `ready` seconds after it had become ready."""
    record = RestartRecord()
    for at in times:
        fall = Fall(at=at, of=f"run {at}", why="it fell", ready_at=None if ready is None else at - ready)
        record = after(tried(record), fall)
    return record


def test_each_try_waits_twice_as_long_and_never_longer_than_five_minutes() -> None:
    assert [pause(row) for row in range(1, 12)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert pause(10_000) == 300
    assert [falling(*range(100, 100 + n)).try_at for n in range(1, 5)] == [101, 103, 106, 111]


def test_five_falls_within_ten_minutes_are_the_end() -> None:
    record = falling(0, 100, 200, 300, 599)
    assert (record.ended, record.try_at) == (TOO_OFTEN, None)
    slow = falling(0, 200, 400, 500, 600)
    assert slow.try_at == 600 + 16, "the first has gone out of the window, and the pauses still grow"
    assert after(record, Fall(at=700, of=record.of, why="again")) is record, "one fall is counted once"


def test_a_run_that_lasted_makes_good_what_was_before() -> None:
    assert falling(0, 10, 20, 30, ready=299).try_at == 30 + 8
    assert falling(0, 10, 20, 30, ready=300).try_at == 31
    assert falling(0, 10, 20, 30, 40, ready=300).ended == ""


def test_what_the_machine_did_counts_for_nothing() -> None:
    record = falling(0, 1, 2, 3)
    for boot in range(9):
        record = after(record, Fall(at=10 + boot, of=f"boot {boot}", why="gone", with_machine=True))
        assert record.try_at == 10 + boot
    assert len(record.falls) == 4


def test_what_only_a_person_can_mend_is_not_tried() -> None:
    record = after(falling(0), Fall(at=10, of="x", why="not installed", for_a_person=True))
    assert (record.ended, record.try_at) == (FOR_A_PERSON, None)
    assert is_over(record, 10)


def test_the_fleets_start_is_a_new_chance_only_when_the_falls_are_old() -> None:
    record = falling(0, 1, 2, 3, 4)
    assert not is_over(record, 5)
    assert is_over(record, 604)
    assert not is_over(falling(0), 5), "it is being tried"


def test_a_clock_that_was_put_back_keeps_nobody_waiting_and_counts_nothing_twice() -> None:
    day = 86_400.0
    record = falling(day, day + 1, day + 2)
    assert due(record, day + 3) == record.try_at == day + 2 + 4
    assert due(record, 10) == 10 + 4, "as long as was said, and no day"
    assert due(tried(record), 10) is None
    assert after(record, Fall(at=10, of="x", why="again")).falls == (10,)
    given_up = falling(*(day + second for second in range(5)))
    assert given_up.ended == TOO_OFTEN
    assert is_over(given_up, 10)


def test_a_record_is_kept_whole() -> None:
    record = falling(0, 1)
    assert RestartRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert RestartRecord.from_json(None) == RestartRecord()
    assert RestartRecord.from_json({"why": "x", "added": "later"}) == RestartRecord(why="x")


def test_tries_are_told_from_what_somebody_asked_for() -> None:
    assert try_id("up-1-lead") == "up-1-lead~1"
    assert try_id(try_id("up-1-lead")) == "up-1-lead~2"
    assert asked_for("up-1-lead~12") == asked_for("up-1-lead") == "up-1-lead"
    assert asked_for("a~b") == "a~b"


@pytest.mark.parametrize(
    ("runtime", "reason", "stderr", "person"),
    [
        ("claude", "The runtime ended with exit code 1 before it was ready.", "Please run /login", True),
        ("custom", "my-agent cannot be started: No such file or directory. Install it, or ...", "", True),
        ("custom", "The folder /w is not there, so my-agent cannot be started in it.", "", True),
        ("claude", "The runtime ended with exit code 1 before it was ready.", "ECONNREFUSED 10.0.0.1:443", False),
        ("sim", "The runtime was not ready after 60 s.", "", False),
    ],
)
def test_who_can_mend_it_is_read_off_what_a_runtime_said(runtime: str, reason: str, stderr: str, person: bool) -> None:
    assert needs_a_person(reason, stderr, RUNTIMES[runtime].hints) is person
