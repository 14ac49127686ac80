"""What is wrong with a fleet is found, whatever it is, and nothing that is well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.supervision.health_findings import (
    FleetView,
    HealthFinding,
    HealthThresholds,
    OpenRequest,
    Sighting,
    alike,
    found_in,
)
from fleet.supervision.liveness import Evidence, Liveness

NOW = 100_000.0
WELL = Liveness(state="idle", evidence="protocol", evidence_at=NOW - 2)
ROW = Sighting(name="coder0", wanted="running", liveness=WELL)
TURN = replace(ROW, liveness=replace(WELL, state="working"), turn="m1")


def found(*agents: Sighting, limits: HealthThresholds | None = None, **more: Any) -> list[HealthFinding]:
    view = FleetView(at=NOW, agents=agents, **{"rostered": [agent.name for agent in agents], **more})
    return list(found_in(view, limits or HealthThresholds()).findings)


def lives(state: str, evidence: Evidence = "protocol", detail: str | None = None) -> Sighting:
    return replace(ROW, liveness=Liveness(state=state, evidence=evidence, evidence_at=NOW - 40, detail=detail))


@pytest.mark.parametrize("state", ["idle", "working", "waiting", "starting", "frozen"])
def test_a_healthy_fleet_has_nothing_wrong(state: str) -> None:
    assert found(lives(state)) == []


def test_an_agent_that_does_not_answer_is_found_with_since_when() -> None:
    (finding,) = found(lives("unknown", "process", "the runtime has not answered"))
    assert (finding.key, finding.since, finding.passing) == ("silent/coder0", NOW - 40.0, False)
    assert finding.cause == "the runtime has not answered"


@pytest.mark.parametrize("wanted", ["stopped", "frozen"])
def test_an_agent_that_is_to_end_may_be_silent_for_a_moment(wanted: str) -> None:
    silent = lives("unknown", "process", "the agent host is there, but does not answer")
    (finding,) = found(replace(silent, wanted=wanted))
    assert finding.passing


def test_an_agent_that_nobody_has_looked_at_yet_is_undecided() -> None:
    unseen = replace(ROW, liveness=Liveness(state="unknown", evidence="none", evidence_at=None))
    result = found_in(FleetView(at=NOW, agents=[unseen], rostered=["coder0"]), HealthThresholds())
    assert [finding.passing for finding in result.findings] == [True]
    assert result.is_undecided("failed", "coder0")
    assert not result.is_undecided("failed", "coder1")


@pytest.mark.parametrize("state", ["unknown", "failed", "stopped"])
def test_an_agent_of_another_installation_is_nobodys_trouble_here_and_what_was_told_of_it_stands(state: str) -> None:
    away = replace(ROW, elsewhere=True, liveness=Liveness(state=state, evidence="none", evidence_at=None))
    for rostered in ([], ["coder0"]):
        result = found_in(FleetView(at=NOW, agents=[away], rostered=rostered), HealthThresholds())
        assert result.findings == []
        assert result.is_undecided("silent", "coder0")


def test_an_agent_that_should_run_and_does_not_is_found() -> None:
    assert [finding.kind for finding in found(lives("failed", "journal"))] == ["failed"]
    (stopped,) = found(lives("stopped", "journal"))
    assert stopped.passing, "between the end of one start and the next an agent is stopped for a moment"


@pytest.mark.parametrize("state", ["failed", "stopped", "starting"])
def test_one_that_muster_tries_again_is_found_while_it_is_not_up_and_needs_no_word_alone(state: str) -> None:
    fell = replace(lives(state, "journal"), fell_for="[Errno 28] No space left on device: '/home/coder0/12'")
    (finding,) = found(fell)
    assert (finding.kind, finding.quiet, finding.passing) == ("failed", True, False)
    assert finding.cause == "[Errno …] No space left on device: '/home/…/…'"
    assert found(replace(fell, liveness=ROW.liveness)) == []
    assert found(replace(fell, wanted="frozen")) == []


def test_turns_that_fail_are_found_of_those_who_are_well() -> None:
    erred = replace(ROW, erred_at=NOW - 5, erred_for="The provider answered 529 for 12 s")
    (finding,) = found(erred)
    assert (finding.kind, finding.quiet, finding.since) == ("erring", True, NOW - 5)
    assert [each.kind for each in found(replace(erred, liveness=lives("failed", "journal").liveness))] == ["failed"]


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_an_agent_that_was_stopped_is_nobodys_trouble(state: str) -> None:
    assert found(replace(lives(state, "journal"), wanted="stopped")) == []


def test_a_turn_without_any_event_is_stalled_after_its_time_and_overdue_if_that_was_asked_for() -> None:
    limits = HealthThresholds(turn_silence=1800.0)
    assert found(replace(TURN, event_at=NOW - 1799), limits=limits) == []
    (stalled,) = found(replace(TURN, event_at=NOW - 1800), limits=limits)
    assert (stalled.kind, stalled.subject, stalled.since) == ("stalled", "m1", NOW - 1800)
    both = found(replace(TURN, event_at=NOW - 7200), limits=replace(limits, cancel_after=7200.0))
    assert [finding.kind for finding in both] == ["stalled", "overdue"]


def test_a_turn_that_waits_for_an_operator_is_not_stalled() -> None:
    waiting = replace(TURN, liveness=replace(WELL, state="waiting"), event_at=NOW - 90_000)
    assert found(waiting) == []


def test_a_permission_request_is_brought_to_mind_before_it_expires() -> None:
    question = OpenRequest(id="4711", agent="coder0", asked_at=NOW - 800, expires_at=NOW + 100)
    (finding,) = found(ROW, questions=[question])
    assert (finding.key, finding.agent) == ("expiring/coder0/4711", "coder0")
    assert found(ROW, questions=[replace(question, expires_at=NOW + 121)]) == []
    assert found(ROW, questions=[replace(question, expires_at=NOW)]) == [], "it is too late to say so"
    short = replace(question, asked_at=NOW - 10, expires_at=NOW + 50)
    assert found(ROW, questions=[short]) == [], "of a minute, a reminder after ten seconds would be the next message"


def test_where_roster_and_reality_differ_both_ways() -> None:
    kinds = {finding.key for finding in found(ROW, rostered=["coder1"], strays=["ghost"])}
    assert kinds == {"unrostered/coder0", "missing/coder1", "stray/ghost"}
    stopped = replace(lives("stopped", "journal"), wanted="stopped")
    assert found(stopped, rostered=[]) == [], "what neither runs nor should is no drift"
    assert found(stopped, rostered=["coder0"]) == [], "who was stopped is in the roster and does not run"


def test_without_a_roster_nothing_is_said_about_drift_nor_that_it_is_over() -> None:
    result = found_in(FleetView(at=NOW, agents=[ROW], rostered=None), HealthThresholds())
    assert result.findings == []
    assert result.is_undecided("missing", "coder1")
    assert not result.is_undecided("silent", "coder1")


def test_the_same_trouble_of_different_agents_has_the_same_cause() -> None:
    told = [
        "coder0: connection to 10.0.0.1:8443 refused (request 4f1c9a7e2b)\nmore",
        "coder1: connection to 10.0.0.1:8443 refused (request 0a8b31c2dd)",
    ]
    assert alike(told[0], "coder0") == alike(told[1], "coder1")
    assert "connection to" in alike(told[0], "coder0")
    assert alike("the runtime has not answered for 31 s", "a") == alike("the runtime has not answered for 2 min", "b")
    assert alike("disk full", "coder0") != alike("no network", "coder1")


def test_a_worker_that_was_never_launched_is_not_missing() -> None:
    kinds = {finding.key for finding in found(rostered=["coder1", "lead"], workers=["coder1"])}
    assert kinds == {"missing/lead"}


def test_who_runs_by_an_older_roster_and_a_roster_with_a_mistake_are_told() -> None:
    assert [finding.key for finding in found(ROW, rostered=["coder0"], changed=["coder0"])] == ["changed/coder0"]
    (finding,) = found(ROW, rostered=None, mistake="roster.yaml:2:1: no\nroster.yaml:3:1: nor this")
    assert (finding.key, finding.cause) == ("unreadable/roster.yaml", "roster.yaml:2:1: no")
    result = found_in(FleetView(at=NOW, agents=[ROW], rostered=None), HealthThresholds())
    assert result.is_undecided("changed", "coder0")
