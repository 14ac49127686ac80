"""When a run that waits goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.config.forge.settings import WakesBlock
from bot.issue_runs.rounds.round_choice import DAY_S, NextRound, next_round
from database.queries.forge.issue_runs import IssueRun, IssueWake

NOON = 1_800_000_000.0
RUN = IssueRun(
    id="5e7a1c", forge="forge.example", repository="acme/shop", number=17, title="t", body="b", role="coder",
    sandboxes=["bubblewrap"], picked_by="ana", picked_how="label", agent="coder17", connector="memory", room="room",
    thread_key="o/1", state="frozen", created_at=NOON, active_at=NOON,
)  # fmt: skip
LIMITS = WakesBlock(per_run=3, per_day=2, failed_checks=1)
COMMENT = IssueWake(run=RUN.id, cause="comment/9", kind="comment", author="ana", is_member=True, text="t", at=NOON)
CHECKS = replace(COMMENT, cause="checks/9", kind="checks", author="ci")


def taken(*ages: float, kind: str = "comment") -> list[IssueWake]:
    """Reasons of earlier rounds, so many seconds ago."""
    return [
        replace(COMMENT, cause=f"{kind}/{number}", kind=kind, at=NOON - age, round=number)  # type: ignore[arg-type]
        for number, age in enumerate(ages, start=2)
    ]


def choice(*wakes: IssueWake, run: IssueRun = RUN, allowed: bool = False) -> NextRound:
    return next_round(run, wakes, LIMITS, NOON, allowed=allowed)


def test_nothing_new_begins_nothing() -> None:
    assert choice() == NextRound()
    assert choice(*taken(5)) == NextRound()
    assert choice(replace(COMMENT, is_member=False)) == NextRound()


def test_a_comment_of_a_member_begins_a_round_until_its_limits() -> None:
    assert choice(COMMENT).begins
    assert choice(*taken(2 * DAY_S, 5), COMMENT).begins
    assert "24 hours" in (choice(*taken(6, 5), COMMENT).refusal or "")
    assert "for a run" in (choice(*taken(*[5 * DAY_S] * 3), COMMENT).refusal or "")
    assert choice(*taken(6, 5), COMMENT, allowed=True).begins


def test_several_comments_of_one_round_count_once() -> None:
    several = [replace(wake, round=2) for wake in taken(6, 5, 4)]
    assert choice(*several, COMMENT).begins


def test_failed_checks_have_a_limit_of_their_own() -> None:
    assert choice(CHECKS).begins
    assert "Failed checks" in (choice(*taken(5, kind="checks"), CHECKS).refusal or "")
    assert choice(*taken(5, kind="checks"), CHECKS, COMMENT).begins


def test_conflicts_and_failed_checks_have_one_limit() -> None:
    conflict = replace(CHECKS, cause="conflict/2", kind="conflict")
    assert choice(conflict).begins
    assert "conflicts" in (choice(*taken(5, kind="checks"), conflict).refusal or "")
    assert "conflicts" in (choice(*taken(5, kind="conflict"), CHECKS).refusal or "")


def test_a_person_decides_about_a_failed_run() -> None:
    failed = replace(RUN, state="failed")
    assert choice(CHECKS, run=failed) == NextRound()
    assert choice(replace(CHECKS, kind="conflict"), run=failed) == NextRound()
    assert choice(COMMENT, run=failed).begins
    retry = replace(COMMENT, cause="retry/1", kind="retry", text="")
    assert choice(retry, run=failed) == NextRound(begins=True, only_publishes=True)
    assert choice(retry, COMMENT, run=failed) == NextRound(begins=True)


@pytest.mark.parametrize("kind", ["mend", "retry"])
def test_what_an_operator_decides_has_no_limit(kind: str) -> None:
    decided = replace(COMMENT, kind=kind)  # type: ignore[arg-type]
    assert choice(*taken(6, 5), decided).begins
