"""GitHub's JSON (REST API, version 2022-11-28), and the values that it becomes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import AwareDatetime, TypeAdapter

from forge.clients.json_types import ForgeJson, NullableList, NullableText, web_address
from forge.clients.shared_json import CommentJson, IssueJson, LabelJson, PullRequestJson, ReviewJson, UserJson
from forge.model.values import CheckState, CommitCheck, DiffPlace, ForgeUser, MergeState, ReviewVerdict

#: GitHub's account that stands for deleted users; where it says null instead, it is meant, too.
GHOST = ForgeUser(10137, "ghost")

_STATUS_STATES = {"pending": CheckState.PENDING, "success": CheckState.SUCCESS}
_PASSED = frozenset({"success", "neutral", "skipped"})
#: What GitHub's `mergeable_state` says where a rule of the branch is not met: also that the base has newer commits.
_BLOCKED = frozenset({"blocked", "behind"})
_VERDICTS = {
    "APPROVED": ReviewVerdict.APPROVED,
    "CHANGES_REQUESTED": ReviewVerdict.CHANGES,
    "COMMENTED": ReviewVerdict.COMMENTED,
    "DISMISSED": ReviewVerdict.DISMISSED,
}


class GitHubUser(UserJson):
    type: NullableText = ""

    def value(self) -> ForgeUser:
        return ForgeUser(self.id, self.login, self.type == "Bot")


class GitHubIssue(IssueJson[GitHubUser]):
    GHOST: ClassVar = GHOST


class GitHubComment(CommentJson[GitHubUser]):
    GHOST: ClassVar = GHOST


class GitHubLineComment(GitHubComment):
    path: NullableText = ""
    diff_hunk: NullableText = ""
    line: int | None = None
    original_line: int | None = None
    """The line when the comment was written; `line` is null once later commits changed it."""
    side: NullableText = ""
    pull_request_review_id: int | None = None

    @property
    def place(self) -> DiffPlace:
        return DiffPlace(self.path, self.original_line or self.line, self.side == "LEFT", self.diff_hunk)


class GitHubReview(ReviewJson[GitHubUser]):
    GHOST: ClassVar = GHOST

    @property
    def verdict(self) -> ReviewVerdict | None:
        return _VERDICTS.get(self.state)


class GitHubPullRequest(PullRequestJson[GitHubUser]):
    GHOST: ClassVar = GHOST

    node_id: str
    merged_at: AwareDatetime | None = None
    mergeable: bool | None = None
    """Null while GitHub finds out, and in lists."""
    mergeable_state: NullableText = ""

    @property
    def is_merged(self) -> bool:
        return self.merged_at is not None

    @property
    def merge(self) -> MergeState:
        if self.mergeable is None:
            return MergeState.UNKNOWN
        if not self.mergeable:
            return MergeState.CONFLICT
        return MergeState.BLOCKED if self.mergeable_state in _BLOCKED else MergeState.READY


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
    check_runs: NullableList[GitHubCheckRun]


class GitHubProtectedBranch(ForgeJson):
    name: str


class GitHubGraphQlError(ForgeJson):
    message: NullableText = ""


class GitHubGraphQl(ForgeJson):
    errors: NullableList[GitHubGraphQlError] = ()


USER = TypeAdapter(GitHubUser)
ISSUE = TypeAdapter(GitHubIssue)
ISSUES = TypeAdapter(NullableList[GitHubIssue])
COMMENT = TypeAdapter(GitHubComment)
COMMENTS = TypeAdapter(NullableList[GitHubComment])
LINE_COMMENTS = TypeAdapter(NullableList[GitHubLineComment])
REVIEWS = TypeAdapter(NullableList[GitHubReview])
LABELS = TypeAdapter(NullableList[LabelJson])
PULL_REQUEST = TypeAdapter(GitHubPullRequest)
PULL_REQUESTS = TypeAdapter(NullableList[GitHubPullRequest])
COMBINED_STATUS = TypeAdapter(GitHubCombinedStatus)
CHECK_RUNS = TypeAdapter(GitHubCheckRuns)
PROTECTED_BRANCHES = TypeAdapter(NullableList[GitHubProtectedBranch])
GRAPHQL = TypeAdapter(GitHubGraphQl)
