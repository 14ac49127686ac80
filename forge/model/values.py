"""What a forge tells, the same for each forge. Texts are other people's words: untrusted; empty where it says null."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from forge.model.references import RepositoryName


@dataclass(frozen=True, slots=True)
class ForgeUser:
    """A user of a forge. A person may change the login, not the id."""

    id: int
    login: str
    is_bot: bool = False
    """Whether the forge says that it is a bot. Gitea does not say so of every bot."""


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue, or what a pull request shares with one."""

    number: int
    title: str
    body: str
    author: ForgeUser
    is_open: bool
    labels: tuple[str, ...]
    assignees: tuple[ForgeUser, ...]
    is_pull_request: bool
    url: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DiffPlace:
    """The line of a pull request's diff that a comment is on, as it was when the comment was written."""

    path: str
    line: int | None
    """None if the comment is on the file as a whole."""
    is_old: bool
    """Whether the line is one of the file before the change, such as a removed line."""
    hunk: str
    """The part of the diff that ends with the line."""


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on an issue or a pull request, or on a line of its diff."""

    id: int
    """Comments on lines may have the ids of other comments."""
    author: ForgeUser
    body: str
    created_at: datetime
    updated_at: datetime
    url: str
    place: DiffPlace | None = None
    """None if the comment is on the whole."""


class ReviewVerdict(StrEnum):
    """What a review says as a whole."""

    APPROVED = "approved"
    CHANGES = "asks for changes"
    COMMENTED = "commented"
    DISMISSED = "dismissed"
    """It does not count any more."""


@dataclass(frozen=True, slots=True)
class Review:
    """A submitted review of a pull request. Its comments on lines are not part of it."""

    id: int
    author: ForgeUser
    body: str
    verdict: ReviewVerdict
    submitted_at: datetime
    url: str
    line_comments: int | None = None
    """How many comments on lines it has; None if the forge does not tell."""


class MergeState(StrEnum):
    """Whether the forge can merge a pull request."""

    READY = "ready"
    BLOCKED = "blocked"
    """Git can merge it, but the forge requires more, such as a review."""
    CONFLICT = "conflict"
    UNKNOWN = "unknown"
    """The forge does not say, or not yet."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request as it is at the forge now."""

    number: int
    title: str
    body: str
    author: ForgeUser
    is_open: bool
    is_merged: bool
    is_draft: bool
    head_repository: RepositoryName | None
    """None if the repository of its branch is gone."""
    head_branch: str
    head_sha: str
    base_branch: str
    url: str
    updated_at: datetime
    merge: MergeState = MergeState.UNKNOWN
    """A forge may take seconds to find out after a push, and say `CONFLICT` meanwhile."""


class CheckState(StrEnum):
    """What a check of a commit says."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"
    """Failed, or could not run."""


@dataclass(frozen=True, slots=True)
class CommitCheck:
    """The newest word of one check on a commit, such as a CI job."""

    name: str
    state: CheckState
    description: str
    url: str


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """What Muster needs to know of a repository before it works in it."""

    name: RepositoryName
    default_branch: str
    clone_url: str
    """Over HTTP, without credentials, at the configured address of the forge."""
    is_private: bool
    may_push: bool
    """Whether our token may push to it."""
    is_fork_of: RepositoryName | None


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """Whom the configured token speaks for, and what it may do as far as the forge tells."""

    account: ForgeUser
    scopes: tuple[str, ...] | None
    """None if the forge does not tell."""
    forge_version: str
