"""What changes at the forge, and what follows for a run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from forge.model.values import Comment, ForgeUser, Issue
from forge.waking import (
    LONGEST_COMMENT,
    MOST_AUTHORS,
    IssueSight,
    PullEffect,
    PullState,
    comment_news,
    pull_effect,
)

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
LATER = (NOON + timedelta(days=1)).timestamp()
ANA, US = ForgeUser(1, "ana"), ForgeUser(9, "muster")
ISSUE = Issue(1, "T", "B", ANA, True, ("muster:coder", "bug"), (ANA,), False, "https://f.example/1", NOON)


def comment(number: int, author: ForgeUser = ANA, body: str = "x") -> Comment:
    at = NOON + timedelta(seconds=number)
    return Comment(number, author, body, at, at, "")


def test_only_what_matters_is_a_change() -> None:
    before = IssueSight.of(ISSUE)
    same = replace(ISSUE, labels=("MUSTER:Coder", "other"), updated_at=NOON + timedelta(days=1), author=US)
    assert IssueSight.of(same).changes_since(before) == ()
    assert IssueSight.from_json(before.to_json()) == before
    for change in ({"is_open": False}, {"labels": ()}, {"assignees": ()}, {"title": "U"}, {"body": "C"}):
        assert len(IssueSight.of(replace(ISSUE, **change)).changes_since(before)) == 1


def test_ours_is_told_by_the_account_and_not_by_the_login() -> None:
    renamed = ForgeUser(9, "somebody")
    same_name = ForgeUser(8, "muster")
    comments = [comment(1, renamed), comment(2, same_name), comment(3, ForgeUser(7, "r", is_bot=True))]
    news = comment_news(comments, our_id=9, after=0, since=None, latest=LATER, taken={})
    assert [each.id for each in news.new] == [2]
    assert (news.after, news.is_all, news.since) == (3, True, comments[2].updated_at.timestamp())


def test_comments_of_many_authors_come_bit_by_bit_and_none_is_lost() -> None:
    comments = [comment(number, ForgeUser(100 + number, f"u{number}")) for number in range(1, 51)]
    after, since, seen = 0, None, list[int]()
    for _ in range(10):
        news = comment_news(comments, our_id=9, after=after, since=since, latest=LATER, taken={})
        assert len({each.author.id for each in news.new}) <= MOST_AUTHORS
        seen += [each.id for each in news.new]
        after, since = news.after, news.since
        if news.is_all:
            break
    assert seen == list(range(1, 51))


def test_a_comment_from_the_future_hides_none_that_comes_later() -> None:
    lying = replace(comment(1), updated_at=NOON + timedelta(days=900))
    noon = NOON.timestamp()
    news = comment_news([lying], our_id=9, after=0, since=None, latest=noon, taken={})
    assert (news.after, news.since) == (1, noon)
    stuck = comment_news([], our_id=9, after=1, since=noon + 900 * 86_400, latest=noon, taken={})
    assert stuck.since == noon


def test_an_edit_of_what_was_given_is_noticed_and_of_a_long_one_beyond_its_end_is_not() -> None:
    long = "x" * LONGEST_COMMENT
    comments = [comment(1, body="new"), comment(2, body=long + "y"), comment(3, body="never given")]
    news = comment_news(comments, our_id=9, after=3, since=None, latest=LATER, taken={1: "old", 2: long})
    assert ([each.id for each in news.edited], news.new) == ([1], ())


@pytest.mark.parametrize(
    ("state", "is_destroyed", "effect"),
    [
        ("open", False, PullEffect.NOTHING),
        ("open", True, PullEffect.REOPEN),
        ("merged", False, PullEffect.DESTROY),
        ("closed", False, PullEffect.DESTROY),
        ("merged", True, PullEffect.NOTHING),
        ("closed", True, PullEffect.NOTHING),
    ],
)
def test_a_run_follows_its_pull_request(state: PullState, is_destroyed: bool, effect: PullEffect) -> None:
    assert pull_effect(state, is_destroyed=is_destroyed) is effect
