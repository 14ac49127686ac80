from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.control.agent_host_client import HostStatus
from fleet.supervision.liveness import EVIDENCE, HEALTHY, STATES, Liveness, fresh_for, judge, patience, questioned_after

NOW = 1000.0
FRESH = HostStatus(state="idle", runtime_pid=7, pinged_at=NOW - 2)


def seen(status: HostStatus, *, at: float = NOW - 1, **more: object) -> Liveness:
    return judge(status, now=NOW, seen_at=at, host_runs=True, **more)  # type: ignore[arg-type]


def test_a_fresh_answer_of_the_runtime_is_the_best_evidence() -> None:
    assert seen(FRESH) == Liveness(state="idle", evidence="protocol", evidence_at=NOW - 2)
    assert seen(replace(FRESH, state="waiting", turn="t")).state == "waiting"
    assert seen(replace(FRESH, state="working", turn="t")).state == "working"


def test_an_adapter_answers_for_itself_only() -> None:
    behind = replace(FRESH, adapter=True)
    assert seen(replace(behind, child="running")).evidence == "adapter"
    assert seen(behind).evidence == "adapter"
    for child in ("stopped", "gone"):
        verdict = seen(replace(behind, child=child))
        assert (verdict.state, verdict.evidence) == ("unknown", "adapter")
        assert child in (verdict.detail or "")


@pytest.mark.parametrize(
    ("status", "word", "since"),
    [
        (replace(FRESH, pinged_at=NOW - 31), "has not answered", NOW - 31),
        (replace(FRESH, pinged_at=None), "not answered yet", None),
        (replace(FRESH, runtime_pid=None), "gone", None),
        (replace(FRESH, state="working", turn="t", pinged_at=NOW - 600), "has not answered", NOW - 600),
    ],
)
def test_a_process_that_is_merely_there_is_unknown(status: HostStatus, word: str, since: float | None) -> None:
    verdict = seen(status)
    assert (verdict.state, verdict.evidence, verdict.healthy) == ("unknown", "process", False)
    assert word in (verdict.detail or "")
    assert verdict.detail_since == since


@pytest.mark.parametrize(
    ("pinged", "asked", "healthy"),
    [(15, 5, False), (11, 4, True), (9, 6, True), (25, None, True), (25, 1, True), (31, None, False)],
)
def test_a_runtime_that_leaves_a_question_open_is_unknown_before_its_answer_is_too_old(
    pinged: float, asked: float | None, healthy: bool
) -> None:
    status = replace(FRESH, pinged_at=NOW - pinged, unanswered_since=None if asked is None else NOW - asked)
    assert seen(status).healthy is healthy
    # What counts longer has longer to answer.
    assert seen(status, fresh_s=120.0).healthy is True


def test_an_agent_host_is_asked_soon_after_its_heartbeat_did_not_come() -> None:
    assert 10 < questioned_after(30.0) < 12
    assert questioned_after(30.0) + patience(30.0) < 20


def test_what_the_agent_host_said_long_ago_counts_no_more() -> None:
    assert seen(FRESH, at=NOW - 31).state == "unknown"


def test_a_quiet_turn_is_worth_a_word() -> None:
    working = replace(FRESH, state="working", turn="t", turn_started_at=NOW - 300, event_at=NOW - 200)
    assert (seen(working).detail, seen(working).detail_since) == ("nothing came from the turn", NOW - 200)
    assert seen(replace(working, event_at=NOW - 5)).detail is None


def test_while_nothing_happens_the_verdict_stays_the_same() -> None:
    statuses = [
        replace(FRESH, pinged_at=NOW - 40),
        replace(FRESH, state="working", turn="t", turn_started_at=NOW - 300, event_at=NOW - 200),
        FRESH,
    ]
    for status in statuses:
        for at in (NOW - 1, NOW - 40):
            assert judge(status, now=NOW, seen_at=at, host_runs=True) == judge(
                status, now=NOW + 5, seen_at=at, host_runs=True
            )


def test_starting_and_stopping() -> None:
    assert seen(HostStatus(state="starting")).state == "starting"
    stopping = seen(replace(FRESH, state="stopping", turn="t"))
    assert (stopping.state, stopping.detail) == ("working", "it stops when its turn ends")
    assert seen(HostStatus(state="failed", detail="why")) == Liveness(
        state="failed", evidence="process", evidence_at=NOW - 1, detail="why"
    )


def test_a_runtime_that_was_asked_to_end_may_be_gone_before_its_host() -> None:
    ending = replace(FRESH, state="stopping", runtime_pid=None)
    assert (seen(ending).state, seen(ending).evidence) == ("idle", "process")
    assert seen(replace(FRESH, state="stopping", adapter=True, child="gone")).state == "idle"
    assert seen(replace(ending, turn="t")).state == "unknown", "it was to finish that turn"
    assert seen(ending, at=NOW - 31).state == "unknown", "it has had its time"


def test_an_agent_host_that_is_there_but_silent_is_unknown() -> None:
    hung = judge(None, now=NOW, host_runs=True, last_state="idle", last_change=NOW - 50)
    assert (hung.state, hung.evidence) == ("unknown", "process")
    fresh = judge(None, now=NOW, host_runs=True, last_state="starting", last_change=NOW - 5)
    assert (fresh.state, fresh.evidence) == ("starting", "process")


def test_what_is_known_of_a_silent_agent_host_is_as_old_as_its_last_word() -> None:
    hung = judge(None, now=NOW, host_runs=True, seen_at=NOW - 40, last_state="idle", last_change=NOW - 5000)
    assert (hung.state, hung.evidence, hung.evidence_at) == ("unknown", "process", NOW - 40)


def test_an_agent_host_that_was_asked_in_vain_is_unknown_until_it_speaks() -> None:
    hung = seen(FRESH, at=NOW - 8, unanswered_at=NOW - 1)
    assert (hung.state, hung.evidence, hung.evidence_at) == ("unknown", "process", NOW - 8)
    assert seen(FRESH, at=NOW - 1, unanswered_at=NOW - 8).state == "idle"


def test_an_agent_host_that_said_its_last_word_has_a_moment_to_go() -> None:
    going = judge(None, now=NOW, host_runs=True, last_state="stopped", last_change=NOW - 2, closed_at=NOW - 2)
    assert going == Liveness(state="stopped", evidence="journal", evidence_at=NOW - 2)
    # Whatever it said of its runtime before that.
    assert seen(FRESH, last_state="frozen", last_change=NOW - 2, closed_at=NOW - 2).state == "frozen"
    stays = judge(None, now=NOW, host_runs=True, last_state="stopped", last_change=NOW - 90, closed_at=NOW - 90)
    assert (stays.state, stays.evidence, stays.evidence_at) == ("unknown", "process", NOW - 90)
    assert "still there" in (stays.detail or "")


@pytest.mark.parametrize("last", ["stopped", "failed", "frozen", "starting"])
def test_without_an_agent_host_the_journal_has_the_last_word(last: str) -> None:
    verdict = judge(None, now=NOW, host_runs=False, last_state=last, last_change=NOW - 5)
    assert verdict == Liveness(state=last, evidence="journal", evidence_at=NOW - 5)


@pytest.mark.parametrize("last", ["idle", "working", "waiting", "what"])
def test_a_vanished_agent_host_is_never_taken_for_alive(last: str) -> None:
    verdict = judge(FRESH, now=NOW, seen_at=NOW, host_runs=False, last_state=last, last_change=NOW - 5)
    assert (verdict.state, verdict.evidence) == ("unknown", "journal")


def test_before_anybody_looked_nothing_is_known() -> None:
    assert judge(None, now=NOW) == Liveness(
        state="unknown", evidence="none", evidence_at=None, detail="nobody has looked yet"
    )


def test_every_verdict_is_one_of_the_promised_words() -> None:
    for state in (*STATES, "stopping", "nonsense"):
        for runs in (True, False, None):
            for status in (None, replace(FRESH, state=state)):
                verdict = judge(status, now=NOW, seen_at=NOW if status else None, host_runs=runs, last_state=state)
                assert verdict.state in STATES
                assert verdict.evidence in EVIDENCE
                assert not (verdict.state in HEALTHY and verdict.evidence not in {"protocol", "adapter"})


def test_what_was_seen_counts_for_three_heartbeats_or_for_as_long_as_was_said() -> None:
    assert fresh_for(10.0) == 30.0
    assert fresh_for(1.0) == 30.0, "a busy machine is no dead agent"
    assert fresh_for(60.0) == 180.0
    assert fresh_for(1.0, 5.0) == 5.0
    assert fresh_for(60.0, 30.0) == 120.0, "sooner than two heartbeats a healthy agent would be unknown"
    assert seen(replace(FRESH, pinged_at=NOW - 6), fresh_s=5.0).state == "unknown"


def test_an_agent_in_a_persons_terminal_is_at_work_although_nothing_answers_a_heartbeat() -> None:
    status = HostStatus(state="working", terminal_by="ana", terminal_since=NOW - 900)
    verdict = judge(status, now=NOW, seen_at=NOW - 1, host_runs=True)
    assert (verdict.state, verdict.evidence, verdict.detail_since) == ("working", "process", NOW - 900)
    assert verdict.detail == "handed over to a terminal by ana"
    assert judge(status, now=NOW, seen_at=NOW - 900, host_runs=True).state == "unknown"
