"""Gitea's and Forgejo's JSON (their API description, Gitea 1.25), and the values that it becomes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import TypeAdapter

from forge.clients.json_types import ForgeJson, NullableList, NullableText, web_address
from forge.clients.shared_json import CommentJson, IssueJson, LabelJson, PullRequestJson, ReviewJson, UserJson
from forge.model.values import CheckState, CommitCheck, DiffPlace, ForgeUser, MergeState, ReviewVerdict

#: Gitea's own accounts: "Ghost" stands for deleted users, "Actions" is its CI.
GHOST_ID, ACTIONS_ID = -1, -2
GHOST = ForgeUser(GHOST_ID, "Ghost")

_STATES = {
    "pending": CheckState.PENDING,
    "success": CheckState.SUCCESS,
    "skipped": CheckState.SUCCESS,
}
_VERDICTS = {
    "APPROVED": ReviewVerdict.APPROVED,
    "REQUEST_CHANGES": ReviewVerdict.CHANGES,
    "COMMENT": ReviewVerdict.COMMENTED,
}


class GiteaUser(UserJson):
    def value(self) -> ForgeUser:
        return ForgeUser(self.id, self.login, self.id == ACTIONS_ID)


class GiteaLabel(LabelJson):
    id: int


class GiteaIssue(IssueJson[GiteaUser]):
    GHOST: ClassVar = GHOST


class GiteaComment(CommentJson[GiteaUser]):
    GHOST: ClassVar = GHOST


class GiteaLineComment(GiteaComment):
    path: NullableText = ""
    diff_hunk: NullableText = ""
    position: int | None = None
    """The line of the new file. Gitea's description calls it LineNum."""
    original_position: int | None = None
    """The line of the old file (OldLineNum)."""

    @property
    def place(self) -> DiffPlace:
        return DiffPlace(self.path, self.position or self.original_position or None, not self.position, self.diff_hunk)


class GiteaReview(ReviewJson[GiteaUser]):
    GHOST: ClassVar = GHOST

    dismissed: bool = False

    @property
    def verdict(self) -> ReviewVerdict | None:
        verdict = _VERDICTS.get(self.state)
        return ReviewVerdict.DISMISSED if verdict is not None and self.dismissed else verdict


class GiteaPullRequest(PullRequestJson[GiteaUser]):
    GHOST: ClassVar = GHOST

    merged: bool = False
    mergeable: bool | None = None

    @property
    def is_merged(self) -> bool:
        return self.merged

    @property
    def merge(self) -> MergeState:
        if self.mergeable:
            return MergeState.READY
        # Gitea says false of each draft, too.
        return MergeState.UNKNOWN if self.mergeable is None or self.draft else MergeState.CONFLICT


class GiteaStatus(ForgeJson):
    id: int
    context: NullableText
    status: str
    description: NullableText = ""
    target_url: NullableText = ""

    def value(self) -> CommitCheck:
        state = _STATES.get(self.status, CheckState.FAILURE)
        return CommitCheck(self.context, state, self.description, web_address(self.target_url))


class GiteaProtection(ForgeJson):
    rule_name: NullableText = ""
    branch_name: NullableText = ""


class GiteaVersion(ForgeJson):
    version: str


USER = TypeAdapter(GiteaUser)
VERSION = TypeAdapter(GiteaVersion)
ISSUE = TypeAdapter(GiteaIssue)
ISSUES = TypeAdapter(NullableList[GiteaIssue])
COMMENT = TypeAdapter(GiteaComment)
COMMENTS = TypeAdapter(NullableList[GiteaComment])
LINE_COMMENTS = TypeAdapter(NullableList[GiteaLineComment])
REVIEWS = TypeAdapter(NullableList[GiteaReview])
LABELS = TypeAdapter(NullableList[GiteaLabel])
PULL_REQUEST = TypeAdapter(GiteaPullRequest)
PULL_REQUESTS = TypeAdapter(NullableList[GiteaPullRequest])
STATUSES = TypeAdapter(NullableList[GiteaStatus])
PROTECTIONS = TypeAdapter(NullableList[GiteaProtection])
