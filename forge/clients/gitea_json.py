"""Gitea's and Forgejo's JSON (their API description, Gitea 1.25), and the values that it becomes."""

from __future__ import annotations

from pydantic import AwareDatetime, Field, PositiveInt, TypeAdapter

from forge.clients.json_types import ForgeJson, FullName, NullableList, NullableText, web_address
from forge.model.values import CheckState, Comment, CommitCheck, ForgeUser, Issue, PullRequest, Review, ReviewVerdict

#: Gitea's own accounts: "Ghost" stands for deleted users, "Actions" is its CI.
GHOST_ID, ACTIONS_ID = -1, -2

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


class GiteaUser(ForgeJson):
    id: int
    login: str = Field(min_length=1)

    def value(self) -> ForgeUser:
        return ForgeUser(self.id, self.login, self.id == ACTIONS_ID)


GHOST = ForgeUser(GHOST_ID, "Ghost")


class GiteaLabel(ForgeJson):
    id: int
    name: str


class GiteaIssue(ForgeJson):
    number: PositiveInt
    title: NullableText
    body: NullableText = ""
    user: GiteaUser | None
    state: str
    labels: NullableList[GiteaLabel] = ()
    assignees: NullableList[GiteaUser] = ()
    pull_request: dict[str, object] | None = None
    html_url: NullableText = ""
    updated_at: AwareDatetime

    def value(self) -> Issue:
        return Issue(
            number=self.number,
            title=self.title,
            body=self.body,
            author=self.user.value() if self.user is not None else GHOST,
            is_open=self.state == "open",
            labels=tuple(label.name for label in self.labels),
            assignees=tuple(user.value() for user in self.assignees),
            is_pull_request=self.pull_request is not None,
            url=web_address(self.html_url),
            updated_at=self.updated_at,
        )


class GiteaComment(ForgeJson):
    id: PositiveInt
    user: GiteaUser | None
    body: NullableText = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    html_url: NullableText = ""

    def value(self) -> Comment:
        author = self.user.value() if self.user is not None else GHOST
        return Comment(self.id, author, self.body, self.created_at, self.updated_at, web_address(self.html_url))


class GiteaReview(ForgeJson):
    id: PositiveInt
    user: GiteaUser | None
    body: NullableText = ""
    state: NullableText = ""
    dismissed: bool = False
    submitted_at: AwareDatetime | None = None
    html_url: NullableText = ""

    def value(self) -> Review | None:
        """Return None for what is no submitted review: a draft, or that somebody is asked for one."""
        verdict = _VERDICTS.get(self.state)
        if verdict is not None and self.dismissed:
            verdict = ReviewVerdict.DISMISSED
        if verdict is None or self.submitted_at is None:
            return None
        author = self.user.value() if self.user is not None else GHOST
        return Review(self.id, author, self.body, verdict, self.submitted_at, web_address(self.html_url))


class GiteaPermissions(ForgeJson):
    push: bool = False


class GiteaParent(ForgeJson):
    full_name: FullName


class GiteaRepository(ForgeJson):
    full_name: FullName
    default_branch: NullableText
    private: bool
    permissions: GiteaPermissions | None = None
    parent: GiteaParent | None = None


class GiteaBranch(ForgeJson):
    ref: str
    sha: NullableText = ""
    repo: GiteaParent | None = None


class GiteaPullRequest(ForgeJson):
    number: PositiveInt
    title: NullableText
    body: NullableText = ""
    user: GiteaUser | None
    state: str
    merged: bool = False
    draft: bool = False
    mergeable: bool | None = None
    head: GiteaBranch
    base: GiteaBranch
    html_url: NullableText = ""
    updated_at: AwareDatetime

    def value(self) -> PullRequest:
        return PullRequest(
            number=self.number,
            title=self.title,
            body=self.body,
            author=self.user.value() if self.user is not None else GHOST,
            is_open=self.state == "open",
            is_merged=self.merged,
            is_draft=self.draft,
            # Gitea calls no draft mergeable, whatever its branches hold.
            is_mergeable=None if self.draft else self.mergeable,
            head_repository=self.head.repo.full_name if self.head.repo is not None else None,
            head_branch=self.head.ref,
            head_sha=self.head.sha,
            base_branch=self.base.ref,
            url=web_address(self.html_url),
            updated_at=self.updated_at,
        )


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


class GiteaHookConfig(ForgeJson):
    url: NullableText = ""


class GiteaHook(ForgeJson):
    id: int
    config: GiteaHookConfig | None = None


class GiteaVersion(ForgeJson):
    version: str


USER = TypeAdapter(GiteaUser)
VERSION = TypeAdapter(GiteaVersion)
REPOSITORY = TypeAdapter(GiteaRepository)
ISSUE = TypeAdapter(GiteaIssue)
ISSUES = TypeAdapter(NullableList[GiteaIssue])
COMMENT = TypeAdapter(GiteaComment)
COMMENTS = TypeAdapter(NullableList[GiteaComment])
REVIEWS = TypeAdapter(NullableList[GiteaReview])
LABELS = TypeAdapter(NullableList[GiteaLabel])
PULL_REQUEST = TypeAdapter(GiteaPullRequest)
PULL_REQUESTS = TypeAdapter(NullableList[GiteaPullRequest])
STATUSES = TypeAdapter(NullableList[GiteaStatus])
PROTECTIONS = TypeAdapter(NullableList[GiteaProtection])
HOOKS = TypeAdapter(NullableList[GiteaHook])
