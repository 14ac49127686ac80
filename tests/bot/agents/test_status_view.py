"""`ps` fits a phone, whoever should be looked at comes first, and nothing that differs is left out."""

from __future__ import annotations

import json
import subprocess
import sys
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.agents import status_view
from bot.read_models.codec import from_wire, to_wire
from bot.read_models.fleet import AgentGate, BlockedAgent, FleetAgent, FleetModel, GateClosure, LimitWait
from bot.read_models.provenance import Provenance
from core.redaction import SecretMasker
from fleet.journal.events import Event, JournalEntry, JournalPosition, TextChunk, ThoughtChunk, TurnEnded

NOW = 10_000.0
#: Characters that a phone shows side by side, in its smallest usual type.
PHONE = 75


def agent(name: str, state: str = "idle", **more: object) -> FleetAgent:
    usual: dict[str, object] = {
        "name": name,
        "role": "coder",
        "runtime": "sim",
        "wanted": "stopped" if state == "stopped" else "running",
        "state": state,
        "seen": Provenance(source="protocol", at=NOW - 3.2),
        "sandbox": "bubblewrap",
        "workspace": "/w",
        "host": "hill",
        "tenant_id": "",
        "gate": AgentGate(),
    }
    return FleetAgent(**{**usual, **more})  # type: ignore[arg-type]


def shown(*agents: FleetAgent, everybody: bool = False) -> str:
    return status_view.fleet_text(FleetModel(agents=agents), NOW, everybody=everybody)


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")][2:]


def test_an_agent_at_work_shows_what_it_does_and_for_how_long() -> None:
    busy = agent("coder0", "working", activity="make test", activity_since=NOW - 250, queued=2)
    (row,) = rows(shown(busy))
    assert row == "| coder0 | ⚙️ working (protocol, 3 s) | make test, 4 min, 2 queued |"
    assert status_view.agent_json(busy, NOW)["activity"] == "make test"
    assert status_view.agent_json(busy, NOW)["activity_s"] == 250.0


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
    assert "**coder0 (Ada)** idle (protocol, 3 s ago)" in status_view.agent_text(agent("coder0", alias="Ada"), NOW)


def test_a_row_fits_a_phone_whatever_an_agent_does() -> None:
    busy = agent("coder0", "working", activity="grep -rn " + "x " * 200, activity_since=NOW - 250)
    (row,) = rows(shown(busy))
    assert len(row) <= PHONE + 10, "the bars between the cells are drawn, not written"


def test_of_a_large_fleet_those_come_first_whom_somebody_should_look_at() -> None:
    fleet = [agent(f"coder{number}") for number in range(1000)]
    fleet[700] = agent("coder700", "failed")
    fleet[800] = agent("coder800", "waiting")
    fleet[900] = agent("coder900", "unknown")
    text = shown(*fleet)
    assert text.startswith("1,000 agents: 🔐 1 waiting, ❓ 1 unknown, 🔴 1 failed, 🟢 997 idle.")
    first = rows(text)
    assert [row.split(" | ")[0] for row in first[:3]] == ["| coder800", "| coder900", "| coder700"]
    assert f"{1000 - len(first)} more run" in text
    assert len(rows(shown(*fleet, everybody=True))) == 1000


def test_a_small_fleet_is_just_its_table() -> None:
    text = shown(agent("b"), agent("a"))
    assert text.startswith("| agent |")
    assert [row.split(" | ")[0] for row in rows(text)] == ["| b", "| a"]


DRIFTED = FleetModel(
    agents=(agent("coder0", drift="not_in_roster"),),
    blocked=(BlockedAgent(name="lead", reason="It has no key."),),
    missing=("board0",),
    strays=("ghost",),
)


def test_drift_shows_both_ways() -> None:
    for stopped in (False, True):
        known = agent("coder0", "stopped" if stopped else "idle", drift="not_in_roster")
        fleet = FleetModel(agents=(known,), missing=DRIFTED.missing, strays=DRIFTED.strays)
        text = status_view.fleet_text(fleet, NOW)
        assert "never started: board0" in text
        assert "not in the roster: coder0" in text
        assert "unknown to the register: ghost" in text


def test_what_is_not_in_the_register_has_the_same_shape_as_the_others() -> None:
    usual, *apart = status_view.fleet_json(DRIFTED, NOW)
    assert [(each["name"], each["state"], each["drift"]) for each in apart] == [
        ("lead", "failed", "not_running"),
        ("board0", "stopped", "not_running"),
        ("ghost", "unknown", "not_in_register"),
    ]
    assert {tuple(sorted(each)) for each in apart} == {tuple(sorted(usual))}
    assert apart[0]["detail"] == "It has no key."
    assert usual["drift"] == "not_in_roster"
    assert status_view.agent_json(agent("coder0"), NOW)["drift"] is None


def test_who_is_stopped_is_counted_and_shown_on_demand() -> None:
    fleet = FleetModel(agents=(agent("coder0"), agent("coder1", "stopped"), agent("coder2", "stopped")))
    assert "\n2 stopped: " in status_view.fleet_text(fleet, NOW)
    assert [each["name"] for each in status_view.fleet_json(fleet, NOW)] == ["coder0"]
    assert len(rows(status_view.fleet_text(fleet, NOW, everybody=True))) == 3
    assert len(status_view.fleet_json(fleet, NOW, everybody=True)) == 3


def test_what_is_known_of_a_silent_agent_grows_old() -> None:
    silent = agent("coder0", "unknown", detail="the runtime has not answered", detail_since=NOW - 40)
    assert "| the runtime has not answered for 40 s |" in shown(silent)
    assert status_view.agent_json(silent, NOW + 10)["detail"] == "the runtime has not answered for 50 s"


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        (LimitWait(why="limit", until=NOW + 3600 * 16, scope="main 7d"), "at a limit, goes on in 16 h (main 7d)"),
        (LimitWait(why="ahead", until=NOW - 1), "ahead, goes on soon"),
        (LimitWait(why="limit"), "at a limit, goes on soon"),
        (LimitWait(why="pace", tasks=1, until=NOW + 120), "held by the pace for 2 min"),
        (LimitWait(why="pace", tasks=2), "2 held by the pace"),
    ],
)
def test_who_waits_for_a_limit_says_until_when(wait: LimitWait, words: str) -> None:
    waiting = agent("coder0", wait=wait)
    assert status_view.agent_json(waiting, NOW)["activity"] == words
    assert words[:26] in shown(waiting)
    assert status_view.agent_json(agent("coder0", wait=wait, activity="make test"), NOW)["activity"] == "make test"


def test_each_reason_for_a_closed_gate_is_told_to_people_and_to_programs() -> None:
    cut = GateClosure(kind="cut_off", by="matrix:@ana:example.org", why="it went wild", at=0.0)
    spent = GateClosure(kind="used_up", limits=("agent:coder1",))
    fleet = FleetModel(
        agents=(
            agent("coder0", gate=AgentGate(closures=(cut,))),
            agent("coder1", gate=AgentGate(closures=(cut, spent))),
            agent("coder2", gate=AgentGate(closures=(GateClosure(kind="paused", question="q1"),))),
            agent("coder3", "frozen", wanted="frozen", gate=AgentGate(closures=(GateClosure(kind="ended"),))),
            agent("coder4", "stopped", gate=AgentGate(closures=(cut,))),
            agent("coder5", gate=None),
            agent("coder6"),
        )
    )
    text = status_view.fleet_text(fleet, NOW)
    assert "Cut off: coder0, coder1. " in text
    assert "A budget is used up: coder1. " in text
    assert "go on: coder2 (\ufdd0answer q1 go\ufdd1). " in text
    assert "coder3" not in text.partition("Paused")[2]
    assert "emergency" not in text
    told = {each["name"]: each["gate"] for each in status_view.fleet_json(fleet, NOW, everybody=True)}
    assert [gate and gate["state"] for gate in told.values()] == [
        "cut_off", "cut_off", "paused", "ended", "cut_off", None, "open",
    ]  # fmt: skip
    assert told["coder0"]["closed"] == [
        {
            "kind": "cut_off",
            "by": "matrix:@ana:example.org",
            "why": "it went wild",
            "at": "1970-01-01T00:00:00.000Z",
            "question": None,
            "limits": [],
        }
    ]
    assert [each["limits"] for each in told["coder1"]["closed"]] == [[], ["agent:coder1"]]
    for stopped in (fleet, FleetModel()):
        stop = FleetModel(agents=stopped.agents, estop=GateClosure(kind="estop"))
        assert "The emergency stop holds" in status_view.fleet_text(stop, NOW)


def test_who_could_do_as_it_likes_is_told_to_people_and_to_programs() -> None:
    fleet = FleetModel(agents=(agent("coder0", unconfined=True), agent("coder1", never_asks=True), agent("coder2")))
    text = status_view.fleet_text(fleet, NOW)
    assert "Without a sandbox, and so able to give Muster orders as you: coder0." in text
    assert "Never asking for permission, since their runtime cannot: coder1." in text
    told = [(each["unconfined"], each["never_asks"]) for each in status_view.fleet_json(fleet, NOW)]
    assert told == [(True, False), (False, True), (False, False)]


NUMBERS = st.none() | st.floats(-1e12, 1e12)
AGENTS = st.builds(
    FleetAgent,
    seen=st.builds(Provenance, at=NUMBERS),
    wait=st.none() | st.builds(LimitWait, until=NUMBERS),
    gate=st.none() | st.builds(AgentGate, closures=st.tuples(st.builds(GateClosure, at=NUMBERS))),
    **dict.fromkeys(("detail_since", "activity_since", "turn_started_at", "started_at", "tries_at"), NUMBERS),
)


@given(st.lists(AGENTS, max_size=3), st.booleans())
def test_another_process_shows_the_same(agents: list[FleetAgent], everybody: bool) -> None:
    fleet = FleetModel(agents=tuple(agents), blocked=DRIFTED.blocked, missing=DRIFTED.missing)
    there = from_wire(FleetModel, json.loads(json.dumps(to_wire(fleet, str), allow_nan=False)))
    assert there == fleet
    assert status_view.fleet_text(there, NOW, everybody=everybody) == status_view.fleet_text(
        fleet, NOW, everybody=everybody
    )
    assert status_view.fleet_json(there, NOW) == status_view.fleet_json(fleet, NOW)


def test_showing_a_fleet_imports_nothing_heavy() -> None:
    """The shell shows it without the orchestrator, and each of these takes tens to hundreds of milliseconds of CPU."""
    heavy = ("aiohttp", "asyncio", "click", "http", "pydantic", "rich", "sqlalchemy", "sqlite3", "structlog", "yaml")
    code = (
        "import sys; from bot.agents import status_view; from bot.read_models import codec, fleet, provenance\n"
        "model = codec.from_wire(fleet.FleetModel, {'strays': ['ghost']})\n"
        "assert 'ghost' in status_view.fleet_text(model, 0.0) and status_view.fleet_json(model, 0.0)\n"
        f"print(sorted({{*{heavy}, 'fleet.runtimes', 'bot.config'}} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
