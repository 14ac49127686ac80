"""When people are told of checks and conflicts, and when those wake an agent."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.model.values import CheckState, CommitCheck, ForgeUser, MergeState, PullRequest
from forge.pull_sight import (
    CHECKS_WAIT_S,
    MOST_CHECKS,
    SETTLED_S,
    UNKNOWN_S,
    PullNews,
    PullSight,
    failed_text,
    pull_news,
)

PULL = PullRequest(
    number=18, title="T", body="", author=ForgeUser(9, "muster"), is_open=True, is_merged=False, is_draft=False,
    head_repository=None, head_branch="b", head_sha="a" * 40, base_branch="main", url="",
    updated_at=datetime(2026, 11, 25, tzinfo=UTC), merge=MergeState.READY,
)  # fmt: skip
CONFLICT = replace(PULL, merge=MergeState.CONFLICT)
FAILED = CommitCheck("lint", CheckState.FAILURE, "2 errors", "")
PENDING = CommitCheck("test", CheckState.PENDING, "", "")
PASSED = CommitCheck("build", CheckState.SUCCESS, "", "")


def looks(*each: tuple[float, PullRequest, list[CommitCheck]]) -> list[PullNews]:
    """What follows from looks at these times."""
    found: list[PullNews] = []
    for at, pull, checks in each:
        before = PullSight.from_json(found[-1].sight.to_json()) if found else None
        found.append(pull_news(before, pull, checks, at))
    return found


def test_people_are_told_once_when_nothing_has_changed_for_a_while() -> None:
    found = looks(
        (0, PULL, []),
        (SETTLED_S - 1, PULL, [PENDING]),
        (SETTLED_S, PULL, [PASSED]),
        (2 * SETTLED_S - 1, PULL, [PASSED]),
        (2 * SETTLED_S, PULL, [PASSED]),
        (9 * SETTLED_S, PULL, [PASSED]),
    )
    assert [each.is_told for each in found] == [False, False, False, False, True, False]
    assert [each.again_s for each in found[:4:3]] == [SETTLED_S, 1.0]
    assert found[-1].again_s is None


def test_a_new_commit_is_told_though_it_looks_the_same() -> None:
    pushed = replace(PULL, head_sha="b" * 40)
    found = looks((0, PULL, []), (SETTLED_S, PULL, []), (SETTLED_S, pushed, []), (2 * SETTLED_S, pushed, []))
    assert [each.is_told for each in found] == [False, True, False, True]


def test_failed_checks_wake_when_all_are_over_or_have_taken_too_long() -> None:
    found = looks(
        (0, PULL, [PENDING]),
        (5, PULL, [FAILED, PENDING]),
        (5 + CHECKS_WAIT_S - 1, PULL, [FAILED, PENDING, PASSED]),
        (5 + CHECKS_WAIT_S, PULL, [FAILED, PENDING, PASSED]),
    )
    assert [each.failed for each in found] == [(), (), (), (FAILED,)]
    assert found[1].again_s == CHECKS_WAIT_S
    assert found[2].again_s == 1.0
    assert looks((0, PULL, [FAILED, PASSED]))[0].failed == (FAILED,)


def test_people_are_told_of_a_check_that_never_ends() -> None:
    found = looks((0, PULL, [PENDING]), (CHECKS_WAIT_S - 1, PULL, [PENDING]), (CHECKS_WAIT_S, PULL, [PENDING]))
    assert [each.is_told for each in found] == [False, False, True]


def test_a_conflict_counts_once_the_forge_has_said_so_for_a_while() -> None:
    found = looks((0, CONFLICT, []), (SETTLED_S - 1, CONFLICT, [PENDING]), (SETTLED_S, CONFLICT, [PENDING]))
    assert [each.has_conflict for each in found] == [False, False, True]
    pushed = replace(CONFLICT, head_sha="b" * 40)
    assert not looks((0, CONFLICT, []), (SETTLED_S, pushed, []))[-1].has_conflict
    assert not looks((0, CONFLICT, []), (1, PULL, []), (SETTLED_S, CONFLICT, []))[-1].has_conflict


def test_a_forge_that_does_not_say_whether_it_can_be_merged_is_asked_again_for_a_while() -> None:
    unknown = replace(PULL, merge=MergeState.UNKNOWN)
    found = looks((0, unknown, []), (SETTLED_S, unknown, []), (UNKNOWN_S, unknown, []), (UNKNOWN_S + 1, unknown, []))
    assert [each.is_told for each in found] == [False, False, True, False]
    assert found[0].again_s is not None
    assert found[0].again_s < SETTLED_S
    assert found[-1].again_s is None
    draft = replace(unknown, is_draft=True)
    assert looks((0, draft, []), (SETTLED_S, draft, []))[-1].is_told


def test_a_check_that_flaps_is_not_told_for_ever() -> None:
    each = [(number * SETTLED_S, PULL, [PASSED if number // 2 % 2 else FAILED]) for number in range(200)]
    assert 10 < sum(news.is_told for news in looks(*each)) < 30


def test_thousands_of_checks_are_counted_and_not_kept() -> None:
    many = [replace(PASSED, name=f"{number:04}" * 100) for number in range(5_000)]
    sight = PullSight.of(PULL, [*many, FAILED], 0.0)
    assert (sight.failed, sight.passed, len(sight.checks)) == (1, 5_000, MOST_CHECKS)
    assert sight.checks[0] == ("lint", CheckState.FAILURE)
    assert len(repr(sight.to_json())) < 20_000


@pytest.mark.parametrize("state", [{}, {"checks": 1}, {"checks": [], "merge": "new"}, {"checks": [["x", "new"]]}])
def test_what_this_version_does_not_know_was_never_seen(state: dict[str, object]) -> None:
    assert PullSight.from_json(state) is None


def test_failed_checks_for_an_agent_are_named_up_to_a_bound() -> None:
    assert failed_text([FAILED]) == "lint: 2 errors"
    assert failed_text([FAILED] * 30).endswith("and 10 more")


CHECKS = st.lists(st.sampled_from([FAILED, PENDING, PASSED]), max_size=3, unique=True)
LOOKS = st.lists(st.tuples(st.floats(-100, 4_000), st.sampled_from(list(MergeState)), CHECKS), max_size=12)


@given(LOOKS)
def test_nothing_is_said_twice_in_a_row_and_whoever_comes_again_when_told_to_hears_the_last_word(
    steps: list[tuple[float, MergeState, list[CommitCheck]]],
) -> None:
    now, before, told = 0.0, None, list[str]()
    pull, checks = PULL, list[CommitCheck]()
    for pause, merge, checks in steps:
        now += pause
        pull = replace(PULL, merge=merge)
        news = pull_news(before, pull, checks, now)
        before = PullSight.from_json(news.sight.to_json())
        assert before == news.sight
        told += [news.sight.told] * news.is_told
    for _ in range(100):
        news = pull_news(before, pull, checks, now)
        before = news.sight
        told += [news.sight.told] * news.is_told
        if news.again_s is None:
            break
        assert news.again_s >= 1
        now += news.again_s
    assert news.again_s is None
    assert told[-1] == news.sight.digest
    assert all(one != other for one, other in itertools.pairwise(told))
    assert bool(news.failed) == (FAILED in checks)
    assert news.has_conflict == (pull.merge is MergeState.CONFLICT)
