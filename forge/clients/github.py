"""GitHub behind `ForgeClient` (REST API, version 2022-11-28; GraphQL for the one thing that REST cannot do)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from forge.clients import github_json as payloads
from forge.clients.address import ForgeAddress
from forge.clients.http_core import ForgeHttp, ForgeLogin, ForgeResponse
from forge.clients.http_options import HttpOptions
from forge.clients.pagination import ForgeList
from forge.clients.shared_routes import ForgeNeeds, SharedRoutes, issue_path, pull_path, repository_path, time_text
from forge.model.errors import ForgeRefused
from forge.model.references import IssueReference, RepositoryName
from forge.model.values import Comment, CommitCheck, Issue, PullRequest, Review, TokenFacts

VERSION = "2022-11-28"
_PUBLIC = "https://github.com"
_MARK_READY = "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { clientMutationId } }"


class GitHubClient(SharedRoutes):
    """github.com, or one GitHub Enterprise Server."""

    kind = "github"
    needs = ForgeNeeds(
        members="Members: read, or the scope read:org",
        repository="Metadata: read",
        fork="the scope repo",
        hooks="Webhooks: read",
        read_issues="Issues: read",
        write_issues="Issues: write",
        read_pulls="Pull requests: read",
        write_pulls="Pull requests: write",
    )
    #: A page of the longest texts that GitHub takes is smaller than what Muster reads of one response.
    page_size = ("per_page", 30)

    def __init__(self, address: ForgeAddress, token: str, *, options: HttpOptions | None = None) -> None:
        """Prepare a client; nothing is sent yet.

        Raises:
            ForgeError: the token cannot be one.
        """
        is_public = address.url.lower() == _PUBLIC
        login = ForgeLogin(token, "Bearer")
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": VERSION}
        options = options or HttpOptions()
        rest = "https://api.github.com" if is_public else f"{address.url}/api/v3"
        # GraphQL has an address of its own on Enterprise Server: /api/graphql beside /api/v3.
        graphql = "https://api.github.com" if is_public else f"{address.url}/api"
        super().__init__(address, ForgeHttp(address, rest, login, headers=headers, options=options))
        self._graphql = ForgeHttp(address, graphql, login, headers=headers, options=options)

    async def token_facts(self) -> TokenFacts:
        response = await self._http.get("/user")
        user = self._http.parsed(payloads.USER, response)
        self._account = user.value()
        scopes = response.headers.get("X-OAuth-Scopes")
        return TokenFacts(
            account=self._account,
            scopes=None if scopes is None else tuple(each.strip() for each in scopes.split(",") if each.strip()),
            forge_version=response.headers.get("X-GitHub-Enterprise-Version", "github.com"),
        )

    async def protected_branches(self, name: RepositoryName) -> tuple[str, ...]:
        found = await self._list(
            repository_path(name, "branches"),
            {"protected": "true"},
            payloads.PROTECTED_BRANCHES,
            key=lambda branch: branch.name,
            needs="Contents: read",
        )
        return tuple(branch.name for branch in found)

    async def read_issue(self, reference: IssueReference) -> Issue:
        response = await self._http.get(issue_path(reference), needs=self.needs.read_issues)
        return self._http.parsed(payloads.ISSUE, response).value()

    async def read_comments(self, reference: IssueReference, *, since: datetime | None = None) -> tuple[Comment, ...]:
        found = await self._list(
            issue_path(reference, "comments"),
            {} if since is None else {"since": time_text(since)},
            payloads.COMMENTS,
            key=lambda comment: comment.id,
            needs=self.needs.read_issues,
        )
        comments = (comment.value() for comment in found)
        return tuple(sorted(comments, key=lambda comment: (comment.created_at, comment.id)))

    async def read_reviews(self, reference: IssueReference) -> tuple[Review, ...]:
        found = await self._list(
            pull_path(reference, "reviews"),
            {},
            payloads.REVIEWS,
            key=lambda review: review.id,
            needs=self.needs.read_pulls,
        )
        reviews = (review for each in found if (review := each.value()) is not None)
        return tuple(sorted(reviews, key=lambda review: (review.submitted_at, review.id)))

    async def read_line_comments(self, reference: IssueReference, reviews: Collection[int]) -> tuple[Comment, ...]:
        if not reviews:
            return ()
        # What GitHub lists for a review does not say the line.
        found = await self._list(
            pull_path(reference, "comments"),
            {},
            payloads.LINE_COMMENTS,
            key=lambda comment: comment.id,
            needs=self.needs.read_pulls,
            keep=lambda comment: comment.pull_request_review_id in reviews,
        )
        comments = (comment.value() for comment in found)
        return tuple(sorted(comments, key=lambda comment: (comment.created_at, comment.id)))

    async def read_diff(self, reference: IssueReference) -> str:
        return await self._diff(pull_path(reference), accept="application/vnd.github.diff")

    async def changed_issues(self, name: RepositoryName, *, since: datetime) -> tuple[Issue, ...]:
        # Sorted by creation, nothing leaves its page while the pages are read; sorted by change, an entry could be
        # passed over.
        query = {"state": "all", "since": time_text(since), "sort": "created", "direction": "asc"}
        issues = await self._issues(name, query)
        return tuple(sorted(issues, key=lambda issue: (issue.updated_at, issue.number)))

    async def labelled_issues(self, name: RepositoryName) -> tuple[Issue, ...]:
        query = {"state": "open", "sort": "created", "direction": "asc"}
        return tuple(
            await self._issues(
                name,
                query,
                keep=lambda issue: issue.is_open_and_labelled,
            )
        )

    async def labels(self, name: RepositoryName) -> tuple[str, ...]:
        found = await self._list(
            repository_path(name, "labels"),
            {},
            payloads.LABELS,
            key=lambda label: label.name,
            needs=self.needs.read_issues,
        )
        return tuple(label.name for label in found)

    async def post_comment(self, reference: IssueReference, body: str) -> Comment:
        response = await self._http.send(
            "POST", issue_path(reference, "comments"), {"body": body}, needs=self.needs.write_issues
        )
        return self._http.parsed(payloads.COMMENT, response).value()

    async def pull_request_of(self, name: RepositoryName, head_branch: str) -> PullRequest | None:
        fitting: list[payloads.GitHubPullRequest] = []
        us = await self._us()
        for owner in dict.fromkeys((name.owner, us.login)):
            found = await self._list(
                repository_path(name, "pulls"),
                {"state": "all", "head": f"{owner}:{head_branch}"},
                payloads.PULL_REQUESTS,
                key=lambda pull_request: pull_request.number,
                needs=self.needs.read_pulls,
            )
            # GitHub ignores a filter that it does not understand.
            fits = (each for each in found if each.head.ref == head_branch and _is_of(each, name, owner))
            # Others may have proposed our branch, also for another base.
            fitting += [each for each in fits if each.user is not None and each.user.id == us.id]
        newest = max(fitting, key=lambda pull_request: pull_request.number, default=None)
        return newest.value() if newest is not None else None

    async def read_pull_request(self, reference: IssueReference) -> PullRequest:
        return (await self._pull_request(reference)).value()

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
        head = head_branch if head_owner is None else f"{head_owner}:{head_branch}"
        wanted = {"title": title, "body": body, "head": head, "base": base_branch, "draft": draft}
        response = await self._http.send("POST", repository_path(name, "pulls"), wanted, needs=self.needs.write_pulls)
        return self._http.parsed(payloads.PULL_REQUEST, response).value()

    async def mark_ready(self, reference: IssueReference) -> None:
        pull_request = await self._pull_request(reference)
        if not pull_request.draft:
            return
        wanted = {"query": _MARK_READY, "variables": {"id": pull_request.node_id}}
        response = await self._graphql.send("POST", "/graphql", wanted, needs=self.needs.write_pulls)
        # GraphQL says no with status 200.
        if errors := self._graphql.parsed(payloads.GRAPHQL, response).errors:
            body = self._graphql.masked(response.body)
            raise ForgeRefused(
                f"The forge {self.address.host} did not mark {reference} as ready. It says: "
                f"{self._graphql.masked(errors[0].message.encode())!r}. The token needs: {self.needs.write_pulls}.",
                status=response.status,
                body=body,
            )

    async def checks(self, name: RepositoryName, sha: str) -> tuple[CommitCheck, ...]:
        def statuses(response: ForgeResponse) -> tuple[payloads.GitHubStatus, ...]:
            return self._http.parsed(payloads.COMBINED_STATUS, response).statuses

        def runs(response: ForgeResponse) -> tuple[payloads.GitHubCheckRun, ...]:
            return self._http.parsed(payloads.CHECK_RUNS, response).check_runs

        size_name, size = self.page_size
        told = ForgeList(
            path=repository_path(name, "commits", sha, "status"),
            read=statuses,
            key=lambda status: status.id,
            size_name=size_name,
            size=size,
            needs="Commit statuses: read",
        )
        ran = ForgeList(
            path=repository_path(name, "commits", sha, "check-runs"),
            query={"filter": "latest"},
            read=runs,
            key=lambda run: run.id,
            size_name=size_name,
            size=size,
            needs="Checks: read",
        )
        checks = [status.value() for status in await told.read_all(self._http)]
        checks += [run.value() for run in await ran.read_all(self._http)]
        return tuple(sorted(checks, key=lambda check: check.name))

    async def close(self) -> None:
        await self._http.close()
        await self._graphql.close()

    async def _pull_request(self, reference: IssueReference) -> payloads.GitHubPullRequest:
        path = pull_path(reference)
        return self._http.parsed(payloads.PULL_REQUEST, await self._http.get(path, needs=self.needs.read_pulls))

    async def _issues(
        self,
        name: RepositoryName,
        query: dict[str, str],
        *,
        keep: Callable[[payloads.GitHubIssue], bool] = lambda _issue: True,
    ) -> list[Issue]:
        found = await self._list(
            repository_path(name, "issues"),
            query,
            payloads.ISSUES,
            key=lambda issue: issue.number,
            needs=self.needs.read_issues,
            keep=keep,
        )
        return [issue.value() for issue in found]


def _is_of(found: payloads.GitHubPullRequest, name: RepositoryName, owner: str) -> bool:
    """Return whether a pull request comes from the repository, or from our account's fork of it."""
    if found.head.repo is None:
        return False
    where = found.head.repo.full_name
    return where.is_same(name) or (owner.lower() != name.owner.lower() and where.owner.lower() == owner.lower())
