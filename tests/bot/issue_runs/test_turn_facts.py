"""A journal tells of the turns of one round, and of no other."""

from __future__ import annotations

from bot.issue_runs.turn_facts import TurnFacts, facts_of
from fleet.journal.events import (
    Event,
    JournalEntry,
    JournalPosition,
    RuntimeDied,
    RuntimeStarted,
    TurnEnded,
    TurnStarted,
)

STARTED = RuntimeStarted(pid=1, session="s", loaded=False, version="2.1.0")


def begun(turn: str, message: str) -> TurnStarted:
    return TurnStarted(turn=turn, message=message, session="s")


def ended(turn: str, message: str, reason: str = "end_turn") -> TurnEnded:
    return TurnEnded(turn=turn, message=message, stop_reason=reason)


def told(*events: Event, until: float | None = None) -> TurnFacts:
    entries = [
        JournalEntry(position=JournalPosition(1, number), at=float(number), event=event)
        for number, event in enumerate(events)
    ]
    return facts_of(entries, "mine", until)


def test_turns_count_from_the_prompt_to_the_end_of_the_round() -> None:
    before = (STARTED, begun("1", "other"), ended("1", "other"))
    mine = (*before, begun("2", "mine"), ended("2", "mine"), begun("3", "later"), ended("3", "later"))
    assert told(*mine, until=4.0) == TurnFacts(turns=1, session="s", runtime_version="2.1.0", exit="end_turn")
    assert told(*mine).turns == 2
    assert told(*before) == TurnFacts()


def test_a_runtime_that_died_is_told_as_such() -> None:
    cut = ended("1", "mine", "cut")
    assert told(STARTED, begun("1", "mine"), RuntimeDied(reason="It was killed."), cut).exit == "runtime died"
    assert told(STARTED, begun("1", "mine"), cut).exit == "cut"
    assert told(STARTED, begun("1", "mine")).exit is None
