"""GitHub behind `ForgeClient` (REST API, version 2022-11-28; GraphQL for the one thing that REST cannot do)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter

from forge.clients import github_json as payloads
from forge.clients.address import ForgeAddress
from forge.clients.http_core import ForgeHttp, ForgeLogin, ForgeResponse, path_of
from forge.clients.http_options import HttpOptions
from forge.clients.membership import membership
from forge.clients.pagination import ForgeList
from forge.clients.shown_diff import shown_diff
from forge.model.errors import ForgeRefused
from forge.model.references import IssueReference, RepositoryName
from forge.model.values import Comment, CommitCheck, ForgeUser, Issue, PullRequest, RepositoryFacts, Review, TokenFacts

T = TypeVar("T", bound=BaseModel)

VERSION = "2022-11-28"
_PUBLIC = "https://github.com"
#: A page of the longest texts that GitHub takes is smaller than what Muster reads of one response.
_PAGE_SIZE, _PAGE = "per_page", 30
_READ_ISSUES, _WRITE_ISSUES = "Issues: read", "Issues: write"
_READ_PULLS, _WRITE_PULLS = "Pull requests: read", "Pull requests: write"
_MARK_READY = "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { clientMutationId } }"


class GitHubClient:
    """github.com, or one GitHub Enterprise Server."""

    kind = "github"

    def __init__(self, address: ForgeAddress, token: str, *, options: HttpOptions | None = None) -> None:
        """Prepare a client; nothing is sent yet.

        Raises:
            ForgeError: the token cannot be one.
        """
        self.address = address
        is_public = address.url.lower() == _PUBLIC
        login = ForgeLogin(token, "Bearer")
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": VERSION}
        options = options or HttpOptions()
        rest = "https://api.github.com" if is_public else f"{address.url}/api/v3"
        # GraphQL has an address of its own on Enterprise Server: /api/graphql beside /api/v3.
        graphql = "https://api.github.com" if is_public else f"{address.url}/api"
        self._http = ForgeHttp(address, rest, login, headers=headers, options=options)
        self._graphql = ForgeHttp(address, graphql, login, headers=headers, options=options)
        self._account: ForgeUser | None = None

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

    async def is_org_member(self, organization: str, login: str) -> bool:
        return await membership(self._http, organization, login, needs="Members: read, or the scope read:org")

    async def repository(self, name: RepositoryName) -> RepositoryFacts:
        found = self._http.parsed(payloads.REPOSITORY, await self._http.get(_repository(name), needs="Metadata: read"))
        return RepositoryFacts(
            name=found.full_name,
            default_branch=found.default_branch,
            clone_url=self.address.clone_url(found.full_name),
            is_private=found.private,
            may_push=found.permissions is not None and found.permissions.push,
            is_fork_of=found.parent.full_name if found.parent is not None else None,
        )

    async def protected_branches(self, name: RepositoryName) -> tuple[str, ...]:
        found = await self._list(
            _repository(name, "branches"),
            {"protected": "true"},
            payloads.PROTECTED_BRANCHES,
            key=lambda branch: branch.name,
            needs="Contents: read",
        )
        return tuple(branch.name for branch in found)

    async def read_issue(self, reference: IssueReference) -> Issue:
        response = await self._http.get(_issue(reference), needs=_READ_ISSUES)
        return self._http.parsed(payloads.ISSUE, response).value()

    async def read_comments(self, reference: IssueReference, *, since: datetime | None = None) -> tuple[Comment, ...]:
        found = await self._list(
            _issue(reference, "comments"),
            {} if since is None else {"since": _time(since)},
            payloads.COMMENTS,
            key=lambda comment: comment.id,
            needs=_READ_ISSUES,
        )
        comments = (comment.value() for comment in found)
        return tuple(sorted(comments, key=lambda comment: (comment.created_at, comment.id)))

    async def read_reviews(self, reference: IssueReference) -> tuple[Review, ...]:
        found = await self._list(
            _repository(reference.repository, "pulls", reference.number, "reviews"),
            {},
            payloads.REVIEWS,
            key=lambda review: review.id,
            needs=_READ_PULLS,
        )
        reviews = (review for each in found if (review := each.value()) is not None)
        return tuple(sorted(reviews, key=lambda review: (review.submitted_at, review.id)))

    async def read_diff(self, reference: IssueReference) -> str:
        response = await self._http.get(
            _repository(reference.repository, "pulls", reference.number),
            accept="application/vnd.github.diff",
            needs=_READ_PULLS,
            cut_at=self._http.limits.diff_bytes,
        )
        return shown_diff(response.body, is_cut=response.is_cut)

    async def changed_issues(self, name: RepositoryName, *, since: datetime) -> tuple[Issue, ...]:
        # Sorted by creation, nothing leaves its page while the pages are read; sorted by change, an entry could be
        # passed over.
        query = {"state": "all", "since": _time(since), "sort": "created", "direction": "asc"}
        issues = await self._issues(name, query)
        return tuple(sorted(issues, key=lambda issue: (issue.updated_at, issue.number)))

    async def labelled_issues(self, name: RepositoryName) -> tuple[Issue, ...]:
        query = {"state": "open", "sort": "created", "direction": "asc"}
        return tuple(
            await self._issues(
                name,
                query,
                keep=lambda issue: bool(issue.labels) and issue.state == "open" and issue.pull_request is None,
            )
        )

    async def labels(self, name: RepositoryName) -> tuple[str, ...]:
        found = await self._list(
            _repository(name, "labels"), {}, payloads.LABELS, key=lambda label: label.name, needs=_READ_ISSUES
        )
        return tuple(label.name for label in found)

    async def post_comment(self, reference: IssueReference, body: str) -> Comment:
        response = await self._http.send("POST", _issue(reference, "comments"), {"body": body}, needs=_WRITE_ISSUES)
        return self._http.parsed(payloads.COMMENT, response).value()

    async def update_comment(self, reference: IssueReference, comment_id: int, body: str) -> Comment:
        path = _repository(reference.repository, "issues", "comments", comment_id)
        response = await self._http.send("PATCH", path, {"body": body}, needs=_WRITE_ISSUES)
        return self._http.parsed(payloads.COMMENT, response).value()

    async def update_description(self, reference: IssueReference, body: str) -> None:
        await self._http.send("PATCH", _issue(reference), {"body": body}, needs=_WRITE_ISSUES)

    async def pull_request_of(self, name: RepositoryName, head_branch: str) -> PullRequest | None:
        fitting: list[payloads.GitHubPullRequest] = []
        us = await self._us()
        for owner in dict.fromkeys((name.owner, us.login)):
            found = await self._list(
                _repository(name, "pulls"),
                {"state": "all", "head": f"{owner}:{head_branch}"},
                payloads.PULL_REQUESTS,
                key=lambda pull_request: pull_request.number,
                needs=_READ_PULLS,
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
        response = await self._http.send("POST", _repository(name, "pulls"), wanted, needs=_WRITE_PULLS)
        return self._http.parsed(payloads.PULL_REQUEST, response).value()

    async def mark_ready(self, reference: IssueReference) -> None:
        pull_request = await self._pull_request(reference)
        if not pull_request.draft:
            return
        wanted = {"query": _MARK_READY, "variables": {"id": pull_request.node_id}}
        response = await self._graphql.send("POST", "/graphql", wanted, needs=_WRITE_PULLS)
        # GraphQL says no with status 200.
        if errors := self._graphql.parsed(payloads.GRAPHQL, response).errors:
            body = self._graphql.masked(response.body)
            raise ForgeRefused(
                f"The forge {self.address.host} did not mark {reference} as ready. It says: "
                f"{self._graphql.masked(errors[0].message.encode())!r}. The token needs: {_WRITE_PULLS}.",
                status=response.status,
                body=body,
            )

    async def request_review(self, reference: IssueReference, logins: Sequence[str]) -> None:
        path = _repository(reference.repository, "pulls", reference.number, "requested_reviewers")
        await self._http.send("POST", path, {"reviewers": list(logins)}, needs=_WRITE_PULLS)

    async def checks(self, name: RepositoryName, sha: str) -> tuple[CommitCheck, ...]:
        def statuses(response: ForgeResponse) -> tuple[payloads.GitHubStatus, ...]:
            return self._http.parsed(payloads.COMBINED_STATUS, response).statuses

        def runs(response: ForgeResponse) -> tuple[payloads.GitHubCheckRun, ...]:
            return self._http.parsed(payloads.CHECK_RUNS, response).check_runs

        told = ForgeList(
            path=_repository(name, "commits", sha, "status"),
            read=statuses,
            key=lambda status: status.id,
            size_name=_PAGE_SIZE,
            size=_PAGE,
            needs="Commit statuses: read",
        )
        ran = ForgeList(
            path=_repository(name, "commits", sha, "check-runs"),
            query={"filter": "latest"},
            read=runs,
            key=lambda run: run.id,
            size_name=_PAGE_SIZE,
            size=_PAGE,
            needs="Checks: read",
        )
        checks = [status.value() for status in await told.read_all(self._http)]
        checks += [run.value() for run in await ran.read_all(self._http)]
        return tuple(sorted(checks, key=lambda check: check.name))

    async def webhooks(self, name: RepositoryName) -> tuple[str, ...]:
        found = await self._list(
            _repository(name, "hooks"), {}, payloads.HOOKS, key=lambda hook: hook.id, needs="Webhooks: read"
        )
        return tuple(hook.config.url for hook in found if hook.config.url)

    async def close(self) -> None:
        await self._http.close()
        await self._graphql.close()

    async def _us(self) -> ForgeUser:
        return self._account or (await self.token_facts()).account

    async def _pull_request(self, reference: IssueReference) -> payloads.GitHubPullRequest:
        path = _repository(reference.repository, "pulls", reference.number)
        return self._http.parsed(payloads.PULL_REQUEST, await self._http.get(path, needs=_READ_PULLS))

    async def _issues(
        self,
        name: RepositoryName,
        query: dict[str, str],
        *,
        keep: Callable[[payloads.GitHubIssue], bool] = lambda _issue: True,
    ) -> list[Issue]:
        found = await self._list(
            _repository(name, "issues"),
            query,
            payloads.ISSUES,
            key=lambda issue: issue.number,
            needs=_READ_ISSUES,
            keep=keep,
        )
        return [issue.value() for issue in found]

    async def _list(
        self,
        path: str,
        query: dict[str, str],
        adapter: TypeAdapter[tuple[T, ...]],
        *,
        key: Callable[[T], int | str],
        needs: str,
        keep: Callable[[T], bool] = lambda _entry: True,
    ) -> tuple[T, ...]:
        entries = ForgeList(
            path=path,
            query=query,
            read=lambda response: self._http.parsed(adapter, response),
            key=key,
            keep=keep,
            size_name=_PAGE_SIZE,
            size=_PAGE,
            needs=needs,
        )
        return await entries.read_all(self._http)


def _is_of(found: payloads.GitHubPullRequest, name: RepositoryName, owner: str) -> bool:
    """Return whether a pull request comes from the repository, or from our account's fork of it."""
    if found.head.repo is None:
        return False
    where = found.head.repo.full_name
    return where.is_same(name) or (owner.lower() != name.owner.lower() and where.owner.lower() == owner.lower())


def _repository(name: RepositoryName, *parts: str | int) -> str:
    return path_of("repos", name.owner, name.name, *parts)


def _issue(reference: IssueReference, *parts: str) -> str:
    return _repository(reference.repository, "issues", reference.number, *parts)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
