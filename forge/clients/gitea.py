"""Gitea and Forgejo behind `ForgeClient` (their API, version 1; checked with the description of Gitea 1.25)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter

from forge.clients import gitea_json as payloads
from forge.clients.address import ForgeAddress
from forge.clients.http_core import ForgeHttp, ForgeLogin, path_of
from forge.clients.http_options import HttpOptions
from forge.clients.membership import membership
from forge.clients.pagination import ForgeList
from forge.clients.shown_diff import shown_diff
from forge.model.errors import ForgeError, ForgeMissing
from forge.model.references import IssueReference, RepositoryName
from forge.model.values import Comment, CommitCheck, ForgeUser, Issue, PullRequest, RepositoryFacts, Review, TokenFacts

T = TypeVar("T", bound=BaseModel)

#: Gitea's default for the most entries of a page.
_PAGE_SIZE, _PAGE = "limit", 50
#: Gitea takes a pull request whose title begins so for a draft; these are its defaults.
_DRAFT = re.compile(r"\s*(?:WIP:|\[WIP\])\s*", re.IGNORECASE)
_ISSUES, _REPOSITORY = "write:issue", "write:repository"


class GiteaClient:
    """One Gitea or Forgejo."""

    kind = "gitea"

    def __init__(self, address: ForgeAddress, token: str, *, options: HttpOptions | None = None) -> None:
        """Prepare a client; nothing is sent yet.

        Raises:
            ForgeError: the token cannot be one.
        """
        self.address = address
        self._http = ForgeHttp(
            address,
            f"{address.url}/api/v1",
            ForgeLogin(token, "token"),
            headers={"Accept": "application/json"},
            options=options or HttpOptions(),
        )
        self._account: ForgeUser | None = None

    async def token_facts(self) -> TokenFacts:
        user = self._http.parsed(payloads.USER, await self._http.get("/user", needs="read:user"))
        version = self._http.parsed(payloads.VERSION, await self._http.get("/version"))
        self._account = user.value()
        return TokenFacts(self._account, None, version.version)

    async def is_org_member(self, organization: str, login: str) -> bool:
        return await membership(self._http, organization, login, needs="read:organization")

    async def repository(self, name: RepositoryName) -> RepositoryFacts:
        found = self._http.parsed(payloads.REPOSITORY, await self._http.get(_repository(name), needs="read:repository"))
        return RepositoryFacts(
            name=found.full_name,
            default_branch=found.default_branch,
            clone_url=self.address.clone_url(found.full_name),
            is_private=found.private,
            may_push=found.permissions is not None and found.permissions.push,
            is_fork_of=found.parent.full_name if found.parent is not None else None,
        )

    async def protected_branches(self, name: RepositoryName) -> tuple[str, ...]:
        response = await self._http.get(_repository(name, "branch_protections"), needs="read:repository")
        rules = self._http.parsed(payloads.PROTECTIONS, response)
        return tuple(rule.rule_name or rule.branch_name for rule in rules)

    async def read_issue(self, reference: IssueReference) -> Issue:
        response = await self._http.get(_issue(reference), needs="read:issue")
        return self._http.parsed(payloads.ISSUE, response).value()

    async def read_comments(self, reference: IssueReference, *, since: datetime | None = None) -> tuple[Comment, ...]:
        # Gitea gives all comments of an issue at once.
        query = None if since is None else {"since": _time(since)}
        response = await self._http.get(_issue(reference, "comments"), query, needs="read:issue")
        comments = (comment.value() for comment in self._http.parsed(payloads.COMMENTS, response))
        return tuple(sorted(comments, key=lambda comment: (comment.created_at, comment.id)))

    async def read_reviews(self, reference: IssueReference) -> tuple[Review, ...]:
        found = await self._list(
            _repository(reference.repository, "pulls", reference.number, "reviews"),
            {},
            payloads.REVIEWS,
            key=lambda review: review.id,
            needs="read:repository",
        )
        reviews = (review for each in found if (review := each.value()) is not None)
        return tuple(sorted(reviews, key=lambda review: (review.submitted_at, review.id)))

    async def read_diff(self, reference: IssueReference) -> str:
        path = f"{_repository(reference.repository, 'pulls', reference.number)}.diff"
        response = await self._http.get(
            path, accept="text/plain", needs="read:repository", cut_at=self._http.limits.diff_bytes
        )
        return shown_diff(response.body, is_cut=response.is_cut)

    async def changed_issues(self, name: RepositoryName, *, since: datetime) -> tuple[Issue, ...]:
        found = await self._list(
            _repository(name, "issues"),
            {"state": "all", "since": _time(since)},
            payloads.ISSUES,
            key=lambda issue: issue.number,
            needs="read:issue",
        )
        return tuple(sorted((issue.value() for issue in found), key=lambda issue: (issue.updated_at, issue.number)))

    async def labelled_issues(self, name: RepositoryName) -> tuple[Issue, ...]:
        found = await self._list(
            _repository(name, "issues"),
            {"state": "open", "type": "issues"},
            payloads.ISSUES,
            key=lambda issue: issue.number,
            needs="read:issue",
            keep=lambda issue: bool(issue.labels) and issue.state == "open" and issue.pull_request is None,
        )
        return tuple(issue.value() for issue in found)

    async def labels(self, name: RepositoryName) -> tuple[str, ...]:
        ours = await self._labels(_repository(name, "labels"), needs="read:issue")
        try:
            # Those of the organization can be used in all of its repositories.
            theirs = await self._labels(path_of("orgs", name.owner, "labels"), needs="read:organization")
        except ForgeMissing:
            theirs = ()
        return tuple(dict.fromkeys((*ours, *theirs)))

    async def _labels(self, path: str, *, needs: str) -> tuple[str, ...]:
        found = await self._list(path, {}, payloads.LABELS, key=lambda label: label.id, needs=needs)
        return tuple(label.name for label in found)

    async def post_comment(self, reference: IssueReference, body: str) -> Comment:
        response = await self._http.send("POST", _issue(reference, "comments"), {"body": body}, needs=_ISSUES)
        return self._http.parsed(payloads.COMMENT, response).value()

    async def update_comment(self, reference: IssueReference, comment_id: int, body: str) -> Comment:
        path = _repository(reference.repository, "issues", "comments", comment_id)
        response = await self._http.send("PATCH", path, {"body": body}, needs=_ISSUES)
        return self._http.parsed(payloads.COMMENT, response).value()

    async def update_description(self, reference: IssueReference, body: str) -> None:
        await self._http.send("PATCH", _issue(reference), {"body": body}, needs=_ISSUES)

    async def pull_request_of(self, name: RepositoryName, head_branch: str) -> PullRequest | None:
        us = await self._us()

        def fits(found: payloads.GiteaPullRequest) -> bool:
            if found.head.repo is None or found.head.ref != head_branch:
                return False
            # Who can read a repository can propose our branch there, also for another base.
            if found.user is None or found.user.id != us.id:
                return False
            where = found.head.repo.full_name
            return where.is_same(name) or where.owner.lower() == us.login.lower()

        for query in ({"state": "open"}, {"state": "closed", "poster": us.login}):
            found = await self._list(
                _repository(name, "pulls"),
                query,
                payloads.PULL_REQUESTS,
                key=lambda pull_request: pull_request.number,
                needs="read:repository",
                keep=fits,
            )
            if found:
                return max(found, key=lambda pull_request: pull_request.number).value()
        return None

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
        wanted = {
            "title": f"WIP: {title}" if draft and not _DRAFT.match(title) else title,
            "body": body,
            "head": head_branch if head_owner is None else f"{head_owner}:{head_branch}",
            "base": base_branch,
        }
        response = await self._http.send("POST", _repository(name, "pulls"), wanted, needs=_REPOSITORY)
        return self._http.parsed(payloads.PULL_REQUEST, response).value()

    async def mark_ready(self, reference: IssueReference) -> None:
        pull_request = await self._pull_request(reference)
        if not pull_request.draft:
            return
        path = _repository(reference.repository, "pulls", reference.number)
        title = _DRAFT.sub("", pull_request.title, count=1) if _DRAFT.match(pull_request.title) else pull_request.title
        response = await self._http.send("PATCH", path, {"title": title}, needs=_REPOSITORY)
        if self._http.parsed(payloads.PULL_REQUEST, response).draft:
            raise ForgeError(
                f"{reference} is still a draft. Its title begins with a word for drafts that Muster does not know: "
                f"{title[:60]!r}. Remove the word at the forge."
            )

    async def request_review(self, reference: IssueReference, logins: Sequence[str]) -> None:
        path = _repository(reference.repository, "pulls", reference.number, "requested_reviewers")
        await self._http.send("POST", path, {"reviewers": list(logins)}, needs=_REPOSITORY)

    async def checks(self, name: RepositoryName, sha: str) -> tuple[CommitCheck, ...]:
        found = await self._list(
            _repository(name, "commits", sha, "statuses"),
            {},
            payloads.STATUSES,
            key=lambda status: status.id,
            needs="read:repository",
        )
        newest = {status.context: status for status in sorted(found, key=lambda status: status.id)}
        return tuple(newest[context].value() for context in sorted(newest))

    async def webhooks(self, name: RepositoryName) -> tuple[str, ...]:
        found = await self._list(
            _repository(name, "hooks"), {}, payloads.HOOKS, key=lambda hook: hook.id, needs=_REPOSITORY
        )
        return tuple(hook.config.url for hook in found if hook.config is not None and hook.config.url)

    async def close(self) -> None:
        await self._http.close()

    async def _us(self) -> ForgeUser:
        return self._account or (await self.token_facts()).account

    async def _pull_request(self, reference: IssueReference) -> payloads.GiteaPullRequest:
        path = _repository(reference.repository, "pulls", reference.number)
        return self._http.parsed(payloads.PULL_REQUEST, await self._http.get(path, needs="read:repository"))

    async def _list(
        self,
        path: str,
        query: dict[str, str],
        adapter: TypeAdapter[tuple[T, ...]],
        *,
        key: Callable[[T], int],
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


def _repository(name: RepositoryName, *parts: str | int) -> str:
    return path_of("repos", name.owner, name.name, *parts)


def _issue(reference: IssueReference, *parts: str) -> str:
    return _repository(reference.repository, "issues", reference.number, *parts)


def _time(moment: datetime) -> str:
    """Write a time as RFC 3339, in whole seconds and rather too early."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
