"""What is found is told once: alone, together, again when that was promised, and its end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from database.queries.operations.watchdog_findings import FindingRow
from fleet.supervision.health_findings import Found, HealthFinding, HealthThresholds
from scheduler import alert_policy
from scheduler.alert_policy import CALM_S, Again, Grown, Memory, News, Over, Told, is_fleet_wide

LIMITS = HealthThresholds(turn_silence=1800.0, settling=60.0)
SILENT = HealthFinding(kind="silent", agent="coder0", cause="no answer")
STALLED = HealthFinding(kind="stalled", agent="coder0", subject="m1")
MISSING = HealthFinding(kind="missing", agent="coder0", passing=True)


@dataclass
class Desk:
    """What stands, as the register would hold it, from one sweep to the next."""

    now: float = 1000.0
    standing: dict[str, FindingRow] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)

    def sweep(self, *findings: HealthFinding, after: float = 10.0, **more: object) -> list[News]:
        self.now += after
        found = Found(findings=findings, **more)  # type: ignore[arg-type]
        decision = alert_policy.decide(found, list(self.standing.values()), self.memory, self.now, LIMITS)
        for key in decision.over:
            del self.standing[key]
        for rows in decision.rows.values():
            self.standing |= {row.key: row for row in rows}
        self.memory = decision.memory
        return list(decision.news)

    def restarted(self) -> None:
        """What is not in the register is lost."""
        self.memory = Memory()


def of(finding: HealthFinding, *names: str) -> list[HealthFinding]:
    return [replace(finding, agent=name) for name in names]


def test_what_is_found_is_told_once_however_often_it_is_looked_at() -> None:
    desk = Desk()
    (told,) = desk.sweep(SILENT)
    assert isinstance(told, Told)
    assert not is_fleet_wide(told.event)
    assert desk.sweep(SILENT) == []
    desk.restarted()
    assert desk.sweep(SILENT) == []


def test_what_comes_again_is_told_again_as_another_event() -> None:
    desk = Desk()
    failed = HealthFinding(kind="failed", agent="coder0")
    (first,) = desk.sweep(failed)
    assert desk.sweep() == [], "that it runs again is seen in its thread"
    (second,) = desk.sweep(failed)
    assert first.event != second.event


def test_the_end_of_what_was_serious_is_told_once_it_is_sure() -> None:
    desk = Desk()
    (told,) = desk.sweep(SILENT)
    assert desk.sweep() == []
    assert desk.sweep(SILENT) == [], "it came and went, and was told once"
    assert desk.sweep() == []
    (over,) = desk.sweep(after=CALM_S)
    assert isinstance(over, Over)
    assert (over.event, over.agent, over.kind) == (told.event, "coder0", "silent")
    assert desk.sweep() == []
    assert desk.standing == {}


def test_many_alike_are_one_event_in_the_main_room() -> None:
    desk = Desk()
    alone = replace(SILENT, agent="d", cause="another")
    told, other = desk.sweep(*of(SILENT, "a", "b", "c"), alone)
    assert isinstance(told, Told)
    assert isinstance(other, Told)
    assert (is_fleet_wide(told.event), is_fleet_wide(other.event)) == (True, False)
    assert [finding.agent for finding in told.findings] == ["a", "b", "c"]
    assert list(other.findings) == [alone]


def test_those_who_come_later_join_the_event() -> None:
    desk = Desk()
    (told,) = desk.sweep(*of(SILENT, "a", "b", "c"))
    (grown,) = desk.sweep(*of(SILENT, "a", "b", "c", "d"), after=600)
    assert isinstance(grown, Grown)
    assert grown.event == told.event
    assert [finding.agent for finding in grown.findings] == ["a", "b", "c", "d"]
    assert desk.sweep(*of(SILENT, "d")) == []
    ended = [*desk.sweep(), *desk.sweep(after=CALM_S)]
    assert [(type(each), each.event) for each in ended] == [(Over, told.event)], "over when the last of them is well"


def test_two_that_were_told_alone_belong_to_the_many_that_follow_at_once() -> None:
    desk = Desk()
    assert len(desk.sweep(*of(SILENT, "a", "b"))) == 2
    (told,) = desk.sweep(*of(SILENT, "a", "b", "c"))
    assert isinstance(told, Told)
    assert {finding.agent for finding in told.findings} == {"a", "b", "c"}
    assert {row.event for row in desk.standing.values()} == {told.event}


def test_those_that_fail_an_hour_apart_are_events_of_their_own() -> None:
    desk = Desk()
    desk.sweep(*of(SILENT, "a", "b"))
    (told,) = desk.sweep(*of(SILENT, "a", "b", "c"), after=3600)
    assert isinstance(told, Told)
    assert not is_fleet_wide(told.event)


def test_a_stalled_turn_is_told_again_at_doubling_intervals() -> None:
    desk = Desk()
    told_at = []
    for _ in range(6 * 360):
        if desk.sweep(STALLED):
            told_at.append(desk.now)
        if desk.now == 5000:
            desk.restarted()
    intervals = [later - earlier for earlier, later in pairwise(told_at)]
    assert intervals == [1800, 3600, 7200]


def test_what_is_told_again_says_so() -> None:
    desk = Desk()
    (told,) = desk.sweep(STALLED)
    (again,) = desk.sweep(STALLED, after=1800)
    assert isinstance(again, Again)
    assert again.event == told.event
    assert again.key != told.event
    assert desk.sweep(SILENT, STALLED, after=1800) != [], "anything else is told meanwhile"


def test_drift_counts_only_when_it_lasts_and_is_one_event() -> None:
    desk = Desk()
    assert desk.sweep(*of(MISSING, "a", "b")) == []
    assert desk.sweep(after=30) == []
    assert desk.sweep(*of(MISSING, "a", "b"), after=40) == [], "it was well in between"
    (told,) = desk.sweep(*of(MISSING, "a", "b"), after=60)
    assert isinstance(told, Told)
    assert is_fleet_wide(told.event)
    assert len(told.findings) == 2
    assert desk.sweep(*of(MISSING, "a", "b")) == []


def test_what_cannot_be_seen_is_not_over() -> None:
    desk = Desk()
    desk.sweep(HealthFinding(kind="failed", agent="coder0"))
    desk.sweep(MISSING)
    desk.sweep(HealthFinding(kind="failed", agent="coder0"), MISSING, after=60)
    assert len(desk.standing) == 2
    desk.restarted()
    assert desk.sweep(unseen=frozenset({"coder0"}), roster_unknown=True) == []
    assert desk.sweep(HealthFinding(kind="failed", agent="coder0"), MISSING) == [], "it was told before the restart"


def test_what_is_said_elsewhere_of_one_is_told_here_only_when_it_befalls_many_at_once() -> None:
    desk = Desk()
    fell = HealthFinding(kind="failed", agent="coder0", cause="no space left on device", quiet=True)

    def fallen(*names: str) -> list[HealthFinding]:
        return [replace(finding, since=desk.now + 5) for finding in of(fell, *names)]

    assert desk.sweep(*fallen("coder0", "coder1")) == []
    long_ago = [replace(finding, since=0.0) for finding in of(fell, "old0", "old1", "old2")]
    assert desk.sweep(*long_ago, *fallen("coder0")) == [], "what fell at other times did not fall together"
    (told,) = desk.sweep(*fallen("coder0", "coder1", "coder2"))
    assert isinstance(told, Told)
    assert is_fleet_wide(told.event)
    assert desk.sweep(*fallen("coder0", "coder1", "coder2")) == []
    (grown,) = desk.sweep(*fallen("coder0", "coder1", "coder2", "coder3"))
    assert isinstance(grown, Grown)
    desk.restarted()
    assert desk.sweep(after=CALM_S / 2) == [], "between two tries it looks well for a moment"
    assert desk.sweep(*fallen("coder0", "coder1", "coder2", "coder3"), after=CALM_S / 2) == []
    desk.sweep()
    (over,) = desk.sweep(after=CALM_S)
    assert isinstance(over, Over)
    assert desk.standing == {}
