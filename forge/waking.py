"""What happens at the forge to an issue that has a run, and what follows for the run (pure).

All of it is decided from what the forge shows, not from what an event says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from forge.model.values import Comment, Issue, PullRequest
from forge.targeting import TARGET_LABEL

#: The most authors whose membership is asked for at one time. The others' comments wait.
MOST_AUTHORS: Final = 20
#: The most characters of a comment that an agent is given.
LONGEST_COMMENT: Final = 20_000


@dataclass(frozen=True, slots=True)
class IssueSight:
    """What people are told of if it changes while a run is under way."""

    is_open: bool
    labels: tuple[str, ...]
    assignees: tuple[int, ...]
    title: str
    text: str

    @classmethod
    def of(cls, issue: Issue) -> IssueSight:
        """Take it from an issue as the forge shows it."""
        labels = {each.lower().strip() for each in issue.labels if each.lower().strip().startswith(TARGET_LABEL)}
        assignees = {each.id for each in issue.assignees}
        return cls(
            issue.is_open, tuple(sorted(labels)), tuple(sorted(assignees)), _digest(issue.title), _digest(issue.body)
        )

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> IssueSight:
        """Read what `to_json` wrote."""
        return cls(state["is_open"], tuple(state["labels"]), tuple(state["assignees"]), state["title"], state["text"])

    def to_json(self) -> dict[str, Any]:
        """Return it for the register."""
        return {
            "is_open": self.is_open,
            "labels": list(self.labels),
            "assignees": list(self.assignees),
            "title": self.title,
            "text": self.text,
        }

    def changes_since(self, before: IssueSight) -> tuple[str, ...]:
        """Return sentences about what changed, for people. Nothing of it changes the run."""
        said = []
        if before.is_open and not self.is_open:
            said.append("The issue was closed. The run goes on until its pull request is merged or closed.")
        if self.is_open and not before.is_open:
            said.append("The issue was reopened.")
        if set(before.labels) - set(self.labels):
            said.append("The label that had it picked up was removed. The run goes on.")
        if set(self.labels) - set(before.labels):
            said.append("Another label for Muster was added. The run keeps its role.")
        if before.assignees != self.assignees:
            said.append("The issue was reassigned. The run goes on.")
        if before.title != self.title:
            said.append("The title of the issue was changed. The agent keeps the one from the pick-up.")
        if before.text != self.text:
            said.append(
                "The text of the issue was changed. The agent keeps the one from the pick-up. A member can tell it by "
                "a comment."
            )
        return tuple(said)


def _digest(text: str) -> str:
    return hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class CommentNews:
    """What is new among the comments on an issue or pull request."""

    new: tuple[Comment, ...]
    """Comments to consider, oldest first."""
    edited: tuple[Comment, ...]
    """Comments that were considered before, and have another text now."""
    after: int
    """The newest comment that is considered with these."""
    since: float | None
    """From when on, by the forge's clock, comments have to be read next time."""
    is_all: bool
    """False: there are more, for the next time."""


def comment_news(
    comments: Sequence[Comment],
    *,
    our_id: int,
    after: int,
    since: float | None,
    latest: float,
    taken: Mapping[int, str],
) -> CommentNews:
    """Return which comments are new. Ours and bots' are not, whatever login they are shown under.

    Args:
        comments: as the forge gives them.
        our_id: our account's.
        after: the newest comment that was considered before.
        since: as in the last `CommentNews`.
        latest: the latest time up to which comments can have been seen, whatever time the forge tells.
        taken: the texts of comments that the run was given, by id, as `comment_text` cuts them.
    """
    new: list[Comment] = []
    authors: set[int] = set()
    considered, is_all = after, True
    for comment in sorted(comments, key=lambda each: each.id):
        if comment.id <= after:
            continue
        if comment.author.id != our_id and not comment.author.is_bot:
            if len(authors | {comment.author.id}) > MOST_AUTHORS:
                is_all = False
                break
            authors.add(comment.author.id)
            new.append(comment)
        considered = comment.id
    edited = [each for each in comments if each.id in taken and taken[each.id] != comment_text(each)]
    until = since
    if is_all:
        until = max((each.updated_at.timestamp() for each in comments), default=None)
        until = since if until is None or (since is not None and since > until) else until
    until = None if until is None else max(0.0, min(until, latest))
    return CommentNews(tuple(new), tuple(edited), considered, until, is_all)


def comment_text(comment: Comment) -> str:
    """Return a comment's text as an agent is given it."""
    return comment.body[:LONGEST_COMMENT]


PullState = Literal["open", "merged", "closed"]


def pull_state(pull: PullRequest) -> PullState:
    """Return the state of a pull request."""
    return "merged" if pull.is_merged else "open" if pull.is_open else "closed"


class PullEffect(StrEnum):
    """What a pull request's state asks of its run."""

    NOTHING = "nothing"
    DESTROY = "destroy"
    REOPEN = "reopen"


def pull_effect(state: PullState, *, is_destroyed: bool) -> PullEffect:
    """Return what is to be done so that a run fits its pull request. It depends on both as they stand alone."""
    if state == "open":
        return PullEffect.REOPEN if is_destroyed else PullEffect.NOTHING
    return PullEffect.NOTHING if is_destroyed else PullEffect.DESTROY
