"""`ps` fits a phone, whoever should be looked at comes first, and nothing that differs is left out."""

from __future__ import annotations

import dataclasses
from zoneinfo import ZoneInfo

from bot.agents import status_view
from bot.messaging.fleet_port import AgentView
from core.redaction import SecretMasker
from fleet.journal.events import Event, JournalEntry, JournalPosition, TextChunk, ThoughtChunk, TurnEnded
from fleet.supervision.health_findings import HealthFinding
from fleet.supervision.liveness import Liveness
from tests.bot.agents.test_status import NOW, ROW

#: Characters that a phone shows side by side, in its smallest usual type.
PHONE = 75


def agent(name: str, state: str = "idle", **more: object) -> AgentView:
    row = dataclasses.replace(ROW, name=name, wanted="stopped" if state == "stopped" else "running")
    verdict = Liveness(state=state, evidence="protocol", evidence_at=NOW - 3.2)
    return dataclasses.replace(AgentView(row=row, liveness=verdict, status=None, activity=None), **more)  # type: ignore[arg-type]


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")][2:]


def test_an_agent_at_work_shows_what_it_does_and_for_how_long() -> None:
    busy = agent("coder0", "working", activity="make test", activity_since=NOW - 250, queued=2)
    (row,) = rows(status_view.fleet_text([busy], hidden=0, now=NOW))
    assert row == "| coder0 | ⚙️ working (protocol, 3 s) | make test, 4 min, 2 queued |"
    assert status_view.as_json(busy, NOW)["activity"] == "make test"
    assert status_view.as_json(busy, NOW)["activity_s"] == 250.0


def test_of_a_turn_that_failed_the_journal_says_why() -> None:
    ended = TurnEnded(
        turn="1-4", message="m1", stop_reason="error", detail="Internal error: " + "the model is away " * 9
    )
    text = status_view.journal_text(
        [JournalEntry(position=JournalPosition(1, 9), at=NOW, event=ended)], ZoneInfo("UTC"), str
    )
    assert "turn_ended  1-4: error: Internal error: the model is away" in text
    assert text.count("the model is away") == 9


def test_a_journal_is_read_in_the_zone_of_the_operator() -> None:
    entry = JournalEntry(
        position=JournalPosition(1, 9), at=1_763_000_000.0, event=TurnEnded(turn="1", message="m1", stop_reason="x")
    )
    text = status_view.journal_text([entry], ZoneInfo("Asia/Tokyo"), str)
    assert "11:13:20 turn_ended" in text
    assert "Times are in Asia/Tokyo." in text


def test_whoever_watches_an_agent_reads_what_it_is_called() -> None:
    assert "**coder0 (Ada)** idle (protocol, 3 s ago)" in status_view.agent_text(agent("coder0"), NOW, "Ada")


def test_a_row_fits_a_phone_whatever_an_agent_does() -> None:
    busy = agent("coder0", "working", activity="grep -rn " + "x " * 200, activity_since=NOW - 250)
    (row,) = rows(status_view.fleet_text([busy], hidden=0, now=NOW))
    assert len(row) <= PHONE + 10, "the bars between the cells are drawn, not written"


def test_of_a_large_fleet_those_come_first_whom_somebody_should_look_at() -> None:
    fleet = [agent(f"coder{number}") for number in range(1000)]
    fleet[700] = agent("coder700", "failed")
    fleet[800] = agent("coder800", "waiting")
    fleet[900] = agent("coder900", "unknown")
    text = status_view.fleet_text(fleet, hidden=0, now=NOW)
    assert text.startswith("1,000 agents: 🔐 1 waiting, ❓ 1 unknown, 🔴 1 failed, 🟢 997 idle.")
    shown = rows(text)
    assert [row.split(" | ")[0] for row in shown[:3]] == ["| coder800", "| coder900", "| coder700"]
    assert f"{1000 - len(shown)} more run" in text
    assert len(rows(status_view.fleet_text(fleet, hidden=0, now=NOW, everybody=True))) == 1000


def test_a_small_fleet_is_just_its_table() -> None:
    text = status_view.fleet_text([agent("b"), agent("a")], hidden=0, now=NOW)
    assert text.startswith("| agent |")
    assert [row.split(" | ")[0] for row in rows(text)] == ["| b", "| a"]


def test_drift_shows_both_ways() -> None:
    drift = [
        HealthFinding(kind="missing", agent="board0"),
        HealthFinding(kind="unrostered", agent="coder0"),
        HealthFinding(kind="stray", agent="ghost"),
    ]
    for fleet in ([agent("coder0")], []):
        text = status_view.fleet_text(fleet, hidden=0, now=NOW, everybody=True, drift=drift)
        assert "never started: board0" in text
        assert "not in the roster: coder0" in text
        assert "unknown to the register: ghost" in text


def test_what_is_not_in_the_register_has_the_same_shape_as_the_others() -> None:
    usual = status_view.as_json(agent("coder0"), NOW)
    for kind, state, drift in (("missing", "stopped", "not_running"), ("stray", "unknown", "not_in_register")):
        apart = status_view.drift_as_json(HealthFinding(kind=kind, agent="ghost"))  # type: ignore[arg-type]
        assert apart.keys() == usual.keys()
        assert (apart["name"], apart["state"], apart["drift"]) == ("ghost", state, drift)
    assert usual["drift"] is None
    assert status_view.as_json(agent("coder0"), NOW, unrostered=True)["drift"] == "not_in_roster"


KEY = "sk-of the account/1234"
REDACT = SecretMasker(known=frozenset({KEY}))


def journal(*found: Event) -> str:
    entries = [JournalEntry(position=JournalPosition(1, at), at=NOW, event=event) for at, event in enumerate(found)]
    return status_view.journal_text(status_view.unsplit(entries, REDACT), ZoneInfo("UTC"), REDACT)


def test_a_journal_is_masked_before_its_lines_are_cut() -> None:
    for before in range(60, 110):
        assert "of the" not in journal(TextChunk(turn="1", text=f"{'x' * before} {KEY} and more"))


def test_a_secret_that_came_in_pieces_is_masked_where_it_began() -> None:
    pieces = [TextChunk(turn="1", text=text) for text in ("It is sk-of the", " account/", "1234.", " That is all.")]
    text = journal(*pieces, ThoughtChunk(turn="1", text="so"))
    assert "It is [redacted]. That is all." in text
    assert "account" not in text
    assert journal(TextChunk(turn="1", text="one"), TextChunk(turn="1", text="two")).count(" text  ") == 2
