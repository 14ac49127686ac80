"""What reviewers say of a pull request."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from forge.model.values import Comment, DiffPlace, ForgeUser, Review, ReviewVerdict
from forge.review_remarks import (
    MOST_REVIEWS,
    hunk_lines,
    line_text,
    place_words,
    review_news,
    review_text,
    reviews_to_read,
)
from forge.waking import MOST_AUTHORS

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
ANA, US, BOT = ForgeUser(1, "ana"), ForgeUser(9, "muster"), ForgeUser(7, "r", is_bot=True)
PLACE = DiffPlace("shop.py", 2, False, "@@ -1,2 +1,2 @@\n def price():\n+    return 2")


def review(number: int, author: ForgeUser = ANA, body: str = "x", lines: int | None = 0) -> Review:
    return Review(number, author, body, ReviewVerdict.CHANGES, NOON + timedelta(seconds=number), "", lines)


def on_line(number: int, author: ForgeUser = ANA, body: str = "y") -> Comment:
    at = NOON + timedelta(seconds=number)
    return Comment(number, author, body, at, at, "", PLACE)


def test_remarks_of_others_are_new_once_and_an_approval_without_text_is_none() -> None:
    reviews = [
        review(1),
        review(2, body=" \n"),
        review(3, US),
        review(4, BOT),
        replace(review(5), verdict=ReviewVerdict.DISMISSED),
        review(6),
    ]
    lines = [on_line(6), on_line(3, US), on_line(4, BOT), on_line(1)]
    news = review_news(reviews, lines, our_id=9, taken={"review/1": review_text(reviews[0])})
    # A review and a comment on a line may have the same id.
    assert [each.cause for each in news.new] == ["line/1", "line/6", "review/6"]
    assert (news.edited, news.is_all) == ((), True)
    assert review_news(reviews, lines, our_id=9, taken={"review/1": "x"}, passed={"line/1"}).new == news.new[1:]


def test_an_agent_is_given_the_verdict_and_the_lines_of_the_diff() -> None:
    assert review_text(review(1)) == "A review that asks for changes:\n\nx"
    assert line_text(on_line(1)) == "On line 2 of shop.py:\n\n|  def price():\n| +    return 2\n\ny"
    assert place_words(replace(PLACE, is_old=True)) == "line 2 of shop.py before the change"
    assert place_words(replace(PLACE, line=None, path="a\nb\u202e")) == "a\ufffdb\ufffd"
    assert len(hunk_lines(replace(PLACE, hunk="@@ x @@\n" + "\n".join("+" * 500 for _ in range(99))))) == 12
    assert line_text(replace(on_line(1), place=replace(PLACE, hunk=""))) == "On line 2 of shop.py:\n\ny"


def test_an_edit_of_what_was_given_is_noticed() -> None:
    said, on = review(1), on_line(1)
    taken = {"review/1": review_text(said), "line/1": line_text(on)}
    assert review_news([said], [on], our_id=9, taken=taken).edited == ()
    news = review_news([replace(said, body="z")], [replace(on, body="z")], our_id=9, taken=taken)
    assert ({each.cause for each in news.edited}, news.new) == ({"review/1", "line/1"}, ())


def test_remarks_of_many_authors_come_bit_by_bit_and_none_is_lost() -> None:
    reviews = [review(number, ForgeUser(100 + number, f"u{number}")) for number in range(1, 51)]
    passed = set[str]()
    for _ in range(10):
        news = review_news(reviews, (), our_id=9, taken={}, passed=passed)
        assert len(news.new) <= MOST_AUTHORS
        passed |= {each.cause for each in news.new}
        if news.is_all:
            break
    assert passed == {f"review/{number}" for number in range(1, 51)}


@pytest.mark.parametrize("count", [1, None])
def test_each_review_is_read_for_comments_on_lines_and_again_when_it_has_more(count: int | None) -> None:
    reviews = [review(number, lines=count) for number in range(1, 3 * MOST_REVIEWS)]
    reviews.append(review(999, lines=0))
    read = dict[int, int | None]()
    passes = 0
    is_all = False
    while not is_all:
        chosen, is_all = reviews_to_read(reviews, read)
        assert len(chosen) <= MOST_REVIEWS
        read |= dict.fromkeys(chosen, count)
        passes += 1
    assert (passes, set(read)) == (3, {each.id for each in reviews[:-1]})
    # The newest are read again, as their comments may have been edited.
    chosen, is_all = reviews_to_read(reviews, read)
    assert (max(chosen), len(chosen), is_all) == (reviews[-2].id, MOST_REVIEWS, True)
    if count is not None:
        chosen, _ = reviews_to_read([replace(reviews[0], line_comments=2), *reviews[1:]], read)
        assert 1 in chosen
