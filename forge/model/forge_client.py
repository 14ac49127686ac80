"""The one interface that every forge is reached by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from forge.model.references import IssueReference, RepositoryName
from forge.model.values import Comment, CommitCheck, Issue, PullRequest, RepositoryFacts, Review, TokenFacts


class ForgeClient(Protocol):
    """A forge, with the token that Muster was given for it.

    Everything raises `ForgeAway` if the forge does not respond in time or cannot now, after retries of what is safe to
    repeat; its `retry_after` says when to come again, if the forge does. It raises `ForgeRefused` with status and body
    if the forge says no, and `ForgeError` if what it says makes no sense. Lists are read to their end, within bounds.
    Nothing that is written is repeated by itself: a caller that repeats a write first looks whether it was done.
    """

    kind: str
    """``gitea`` or ``github``."""

    @property
    def said_at(self) -> float | None:
        """Return the time of the newest response by the forge's clock, in seconds since 1970; None if unknown."""

    async def token_facts(self) -> TokenFacts:
        """Return whom the token speaks for."""

    async def is_org_member(self, organization: str, login: str) -> bool:
        """Return whether somebody is a member of the organization, as the forge says at this moment.

        Raises:
            MembershipUnknown: the forge answered neither yes nor no, such as the redirect that Gitea gives to a token
                from outside of the organization.
        """

    async def repository(self, name: RepositoryName) -> RepositoryFacts:
        """Return what the forge says of a repository."""

    async def fork(self, name: RepositoryName) -> None:
        """Make a fork of a repository for our account. GitHub says that it will, and makes it afterwards."""

    async def protected_branches(self, name: RepositoryName) -> tuple[str, ...]:
        """Return the rules of protected branches: names or patterns with ``*``. GitHub gives only names."""

    async def read_issue(self, reference: IssueReference) -> Issue:
        """Return an issue, or what a pull request shares with one."""

    async def read_comments(self, reference: IssueReference, *, since: datetime | None = None) -> tuple[Comment, ...]:
        """Return the comments on an issue or pull request, oldest first; with `since`, those changed at or after it.

        Comments on lines of a diff, which belong to reviews, are not among them.
        """

    async def read_reviews(self, reference: IssueReference) -> tuple[Review, ...]:
        """Return the submitted reviews of a pull request, oldest first. Comments on lines are not among them."""

    async def read_line_comments(self, reference: IssueReference, reviews: Collection[int]) -> tuple[Comment, ...]:
        """Return the comments on lines that belong to some reviews of a pull request, oldest first.

        Gitea is asked once for each of the reviews.
        """

    async def read_diff(self, reference: IssueReference) -> str:
        """Return the unified diff of a pull request; cut, and said to be, above 1 MB."""

    async def changed_issues(self, name: RepositoryName, *, since: datetime) -> tuple[Issue, ...]:
        """Return the issues and pull requests, open and closed, changed at or after a time; oldest first."""

    async def labelled_issues(self, name: RepositoryName) -> tuple[Issue, ...]:
        """Return all open issues that have any label; no pull requests."""

    async def labels(self, name: RepositoryName) -> tuple[str, ...]:
        """Return the labels that issues of a repository can have."""

    async def post_comment(self, reference: IssueReference, body: str) -> Comment:
        """Write a comment."""

    async def update_description(self, reference: IssueReference, body: str) -> None:
        """Replace the text of an issue or pull request."""

    async def pull_request_of(self, name: RepositoryName, head_branch: str) -> PullRequest | None:
        """Return the newest pull request that we opened into a repository from a branch of it or of our fork.

        On Gitea an open one is returned before a closed one.
        """

    async def read_pull_request(self, reference: IssueReference) -> PullRequest:
        """Return a pull request as it is now."""

    async def open_pull_request(
        self,
        name: RepositoryName,
        *,
        title: str,
        body: str,
        head_branch: str,
        head_owner: str | None,
        base_branch: str,
        draft: bool,
    ) -> PullRequest:
        """Open a pull request. With `head_owner`, its branch is in that account's fork."""

    async def mark_ready(self, reference: IssueReference) -> None:
        """Turn a draft into a pull request that can be merged."""

    async def request_review(self, reference: IssueReference, logins: Sequence[str]) -> None:
        """Ask accounts to review a pull request."""

    async def checks(self, name: RepositoryName, sha: str) -> tuple[CommitCheck, ...]:
        """Return the newest word of each check on a commit."""

    async def webhooks(self, name: RepositoryName) -> tuple[str, ...]:
        """Return the addresses that a repository sends its events to.

        Raises:
            ForgeRefused: our token may not see them.
        """

    async def close(self) -> None:
        """Close the connections."""
