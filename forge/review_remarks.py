"""What reviewers say of the pull request of a run: reviews with text, and comments on lines of the diff (pure)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from forge.model.values import Comment, DiffPlace, ForgeUser, Review, ReviewVerdict
from forge.waking import LONGEST_COMMENT, MOST_AUTHORS

#: The most reviews whose comments on lines are read at one time: anybody may review, and Gitea is asked for each.
MOST_REVIEWS: Final = 20
#: The last lines of a part of a diff that are shown with a comment, and the characters of one of them.
_HUNK_LINES: Final = 12
_HUNK_LINE: Final = 300
_PATH: Final = 300
_SAYS: Final = {
    ReviewVerdict.APPROVED: "approves the pull request",
    ReviewVerdict.CHANGES: "asks for changes",
    ReviewVerdict.COMMENTED: "neither approves nor asks for changes",
    ReviewVerdict.DISMISSED: "does not count any more",
}


@dataclass(frozen=True, slots=True)
class ReviewRemark:
    """Something that a reviewer said, as an agent is given it."""

    cause: str
    """Its key among the reasons to go on: the ids of reviews and of comments on lines are apart."""
    author: ForgeUser
    text: str
    at: float
    """When it was said, by the forge's clock."""


@dataclass(frozen=True, slots=True)
class ReviewNews:
    """What is new among the remarks of reviewers."""

    new: tuple[ReviewRemark, ...]
    """Oldest first."""
    edited: tuple[ReviewRemark, ...]
    """Those that the run was given, and that have another text now."""
    is_all: bool
    """False: there are more, for the next time."""


def reviews_to_read(reviews: Sequence[Review], read: Mapping[int, int | None]) -> tuple[frozenset[int], bool]:
    """Return the reviews whose comments on lines are to be read now, and whether no unread ones are left out.

    If there is room, the newest of those that were read are read once more, as their comments may have been edited.

    Args:
        reviews: of the pull request, oldest first.
        read: how many comments the reviews had that were read, by id.
    """
    having = [each for each in reviews if each.line_comments != 0]
    unread = [each.id for each in having if each.id not in read or read[each.id] != each.line_comments]
    again = [each.id for each in reversed(having) if read.get(each.id, -1) == each.line_comments]
    return frozenset([*unread, *again][:MOST_REVIEWS]), len(unread) <= MOST_REVIEWS


def review_news(
    reviews: Iterable[Review],
    line_comments: Iterable[Comment],
    *,
    our_id: int,
    taken: Mapping[str, str],
    passed: Collection[str] = (),
) -> ReviewNews:
    """Return which remarks are new. Ours and bots' are not, and neither are reviews that do not count any more.

    Args:
        reviews: of the pull request.
        line_comments: those that were read.
        our_id: our account's.
        taken: the texts that the run was given, by their causes.
        passed: the causes of remarks that were considered before, and not given.
    """
    remarks = [
        ReviewRemark(f"review/{each.id}", each.author, review_text(each), each.submitted_at.timestamp())
        for each in reviews
        if each.body.strip() and each.verdict is not ReviewVerdict.DISMISSED
    ]
    remarks += [
        ReviewRemark(f"line/{each.id}", each.author, line_text(each), each.created_at.timestamp())
        for each in line_comments
    ]
    new: list[ReviewRemark] = []
    authors: set[int] = set()
    is_all = True
    for remark in sorted(remarks, key=lambda each: (each.at, each.cause)):
        if remark.cause in taken or remark.cause in passed or remark.author.id == our_id or remark.author.is_bot:
            continue
        if len(authors | {remark.author.id}) > MOST_AUTHORS:
            is_all = False
            break
        authors.add(remark.author.id)
        new.append(remark)
    edited = tuple(each for each in remarks if taken.get(each.cause, each.text) != each.text)
    return ReviewNews(tuple(new), edited, is_all)


def review_says(review: Review) -> str:
    """Return what a review says as a whole."""
    return f"A review that {_SAYS[review.verdict]}"


def review_text(review: Review) -> str:
    """Return a review's text as an agent is given it."""
    return f"{review_says(review)}:\n\n{review.body[:LONGEST_COMMENT]}"


def line_text(comment: Comment) -> str:
    """Return a comment on a line as an agent is given it: the place, the lines of the diff, and the text."""
    body = comment.body[:LONGEST_COMMENT]
    if comment.place is None:
        return body
    shown = [f"On {place_words(comment.place)}:"]
    if hunk := hunk_lines(comment.place):
        shown.append("\n".join(f"| {line}" for line in hunk))
    return "\n\n".join((*shown, body))


def place_words(place: DiffPlace) -> str:
    """Return the name of the line that a comment is on."""
    path = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in place.path[:_PATH])
    if place.line is None:
        return path
    return f"line {place.line} of {path}{' before the change' if place.is_old else ''}"


def hunk_lines(place: DiffPlace) -> list[str]:
    """Return the last lines of the diff up to the line that a comment is on, without the head of the part."""
    lines = place.hunk.splitlines()
    if lines and lines[0].startswith("@@"):
        del lines[0]
    return [line[:_HUNK_LINE] for line in lines[-_HUNK_LINES:]]
