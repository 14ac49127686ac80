"""GitHub's JSON (REST API, version 2022-11-28), and the values that it becomes."""

from __future__ import annotations

from pydantic import AwareDatetime, Field, PositiveInt, TypeAdapter

from forge.clients.json_types import ForgeJson, FullName, NullableList, NullableText, web_address
from forge.model.values import CheckState, Comment, CommitCheck, ForgeUser, Issue, PullRequest, Review, ReviewVerdict

#: GitHub's account that stands for deleted users; where it says null instead, it is meant, too.
GHOST = ForgeUser(10137, "ghost")

_STATUS_STATES = {"pending": CheckState.PENDING, "success": CheckState.SUCCESS}
_PASSED = frozenset({"success", "neutral", "skipped"})


_VERDICTS = {
    "APPROVED": ReviewVerdict.APPROVED,
    "CHANGES_REQUESTED": ReviewVerdict.CHANGES,
    "COMMENTED": ReviewVerdict.COMMENTED,
    "DISMISSED": ReviewVerdict.DISMISSED,
}


class GitHubUser(ForgeJson):
    id: int
    login: str = Field(min_length=1)
    type: NullableText = ""

    def value(self) -> ForgeUser:
        return ForgeUser(self.id, self.login, self.type == "Bot")


def _author(user: GitHubUser | None) -> ForgeUser:
    return user.value() if user is not None else GHOST


class GitHubLabel(ForgeJson):
    name: NullableText = ""


class GitHubIssue(ForgeJson):
    number: PositiveInt
    title: NullableText
    body: NullableText = ""
    user: GitHubUser | None
    state: str
    labels: NullableList[GitHubLabel | str] = ()
    assignees: NullableList[GitHubUser] = ()
    pull_request: dict[str, object] | None = None
    html_url: NullableText = ""
    updated_at: AwareDatetime

    def value(self) -> Issue:
        return Issue(
            number=self.number,
            title=self.title,
            body=self.body,
            author=_author(self.user),
            is_open=self.state == "open",
            labels=tuple(label if isinstance(label, str) else label.name for label in self.labels),
            assignees=tuple(user.value() for user in self.assignees),
            is_pull_request=self.pull_request is not None,
            url=web_address(self.html_url),
            updated_at=self.updated_at,
        )


class GitHubComment(ForgeJson):
    id: PositiveInt
    user: GitHubUser | None
    body: NullableText = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    html_url: NullableText = ""

    def value(self) -> Comment:
        author = _author(self.user)
        return Comment(self.id, author, self.body, self.created_at, self.updated_at, web_address(self.html_url))


class GitHubReview(ForgeJson):
    id: PositiveInt
    user: GitHubUser | None
    body: NullableText = ""
    state: NullableText = ""
    submitted_at: AwareDatetime | None = None
    html_url: NullableText = ""

    def value(self) -> Review | None:
        """Return None for what is no submitted review: a draft, or that somebody is asked for one."""
        verdict = _VERDICTS.get(self.state)
        if verdict is None or self.submitted_at is None:
            return None
        author = _author(self.user)
        return Review(self.id, author, self.body, verdict, self.submitted_at, web_address(self.html_url))


class GitHubPermissions(ForgeJson):
    push: bool = False


class GitHubParent(ForgeJson):
    full_name: FullName


class GitHubRepository(ForgeJson):
    full_name: FullName
    default_branch: NullableText
    private: bool
    permissions: GitHubPermissions | None = None
    parent: GitHubParent | None = None


class GitHubBranch(ForgeJson):
    ref: str
    sha: NullableText
    repo: GitHubParent | None = None


class GitHubPullRequest(ForgeJson):
    number: PositiveInt
    node_id: str
    title: NullableText
    body: NullableText = ""
    user: GitHubUser | None
    state: str
    merged_at: AwareDatetime | None = None
    draft: bool | None = None
    mergeable: bool | None = None
    head: GitHubBranch
    base: GitHubBranch
    html_url: NullableText = ""
    updated_at: AwareDatetime

    def value(self) -> PullRequest:
        return PullRequest(
            number=self.number,
            title=self.title,
            body=self.body,
            author=_author(self.user),
            is_open=self.state == "open",
            is_merged=self.merged_at is not None,
            is_draft=self.draft is True,
            is_mergeable=self.mergeable,
            head_repository=self.head.repo.full_name if self.head.repo is not None else None,
            head_branch=self.head.ref,
            head_sha=self.head.sha,
            base_branch=self.base.ref,
            url=web_address(self.html_url),
            updated_at=self.updated_at,
        )


class GitHubStatus(ForgeJson):
    id: int
    context: NullableText
    state: str
    description: NullableText = ""
    target_url: NullableText = ""

    def value(self) -> CommitCheck:
        state = _STATUS_STATES.get(self.state, CheckState.FAILURE)
        return CommitCheck(self.context, state, self.description, web_address(self.target_url))


class GitHubCombinedStatus(ForgeJson):
    statuses: NullableList[GitHubStatus]


class GitHubCheckOutput(ForgeJson):
    title: NullableText = ""


class GitHubCheckRun(ForgeJson):
    id: int
    name: str
    status: str
    conclusion: str | None = None
    output: GitHubCheckOutput | None = None
    html_url: NullableText = ""

    def value(self) -> CommitCheck:
        if self.status != "completed":
            state = CheckState.PENDING
        else:
            state = CheckState.SUCCESS if self.conclusion in _PASSED else CheckState.FAILURE
        title = self.output.title if self.output is not None else ""
        return CommitCheck(self.name, state, title, web_address(self.html_url))


class GitHubCheckRuns(ForgeJson):
    total_count: int
    check_runs: NullableList[GitHubCheckRun]


class GitHubProtectedBranch(ForgeJson):
    name: str


class GitHubHookConfig(ForgeJson):
    url: NullableText = ""


class GitHubHook(ForgeJson):
    id: int
    config: GitHubHookConfig


class GitHubGraphQlError(ForgeJson):
    message: NullableText = ""
    type: NullableText = ""


class GitHubGraphQl(ForgeJson):
    errors: NullableList[GitHubGraphQlError] = ()


USER = TypeAdapter(GitHubUser)
REPOSITORY = TypeAdapter(GitHubRepository)
ISSUE = TypeAdapter(GitHubIssue)
ISSUES = TypeAdapter(NullableList[GitHubIssue])
COMMENT = TypeAdapter(GitHubComment)
COMMENTS = TypeAdapter(NullableList[GitHubComment])
REVIEWS = TypeAdapter(NullableList[GitHubReview])
LABELS = TypeAdapter(NullableList[GitHubLabel])
PULL_REQUEST = TypeAdapter(GitHubPullRequest)
PULL_REQUESTS = TypeAdapter(NullableList[GitHubPullRequest])
COMBINED_STATUS = TypeAdapter(GitHubCombinedStatus)
CHECK_RUNS = TypeAdapter(GitHubCheckRuns)
PROTECTED_BRANCHES = TypeAdapter(NullableList[GitHubProtectedBranch])
HOOKS = TypeAdapter(NullableList[GitHubHook])
GRAPHQL = TypeAdapter(GitHubGraphQl)
