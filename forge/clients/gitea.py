"""Gitea and Forgejo behind `ForgeClient` (their API, version 1; checked with the description of Gitea 1.25)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection
from datetime import datetime

from forge.clients import gitea_json as payloads
from forge.clients.address import ForgeAddress
from forge.clients.http_core import ForgeHttp, ForgeLogin, path_of
from forge.clients.http_options import HttpOptions
from forge.clients.shared_routes import ForgeNeeds, SharedRoutes, issue_path, pull_path, repository_path, time_text
from forge.model.errors import ForgeError, ForgeMissing
from forge.model.references import IssueReference, RepositoryName
from forge.model.values import Comment, CommitCheck, Issue, PullRequest, Review, TokenFacts

#: Gitea takes a pull request whose title begins so for a draft; these are its defaults.
_DRAFT = re.compile(r"\s*(?:WIP:|\[WIP\])\s*", re.IGNORECASE)


class GiteaClient(SharedRoutes):
    """One Gitea or Forgejo."""

    kind = "gitea"
    needs = ForgeNeeds(
        members="read:organization",
        repository="read:repository",
        fork="write:repository",
        hooks="write:repository",
        read_issues="read:issue",
        write_issues="write:issue",
        read_pulls="read:repository",
        write_pulls="write:repository",
    )
    #: Gitea's default for the most entries of a page.
    page_size = ("limit", 50)

    def __init__(self, address: ForgeAddress, token: str, *, options: HttpOptions | None = None) -> None:
        """Prepare a client; nothing is sent yet.

        Raises:
            ForgeError: the token cannot be one.
        """
        http = ForgeHttp(
            address,
            f"{address.url}/api/v1",
            ForgeLogin(token, "token"),
            headers={"Accept": "application/json"},
            options=options or HttpOptions(),
        )
        super().__init__(address, http)

    async def token_facts(self) -> TokenFacts:
        user = self._http.parsed(payloads.USER, await self._http.get("/user", needs="read:user"))
        version = self._http.parsed(payloads.VERSION, await self._http.get("/version"))
        self._account = user.value()
        return TokenFacts(self._account, None, version.version)

    async def protected_branches(self, name: RepositoryName) -> tuple[str, ...]:
        response = await self._http.get(repository_path(name, "branch_protections"), needs="read:repository")
        rules = self._http.parsed(payloads.PROTECTIONS, response)
        return tuple(rule.rule_name or rule.branch_name for rule in rules)

    async def read_issue(self, reference: IssueReference) -> Issue:
        response = await self._http.get(issue_path(reference), needs=self.needs.read_issues)
        return self._http.parsed(payloads.ISSUE, response).value()

    async def read_comments(self, reference: IssueReference, *, since: datetime | None = None) -> tuple[Comment, ...]:
        # Gitea gives all comments of an issue at once.
        query = None if since is None else {"since": time_text(since)}
        response = await self._http.get(issue_path(reference, "comments"), query, needs=self.needs.read_issues)
        comments = (comment.value() for comment in self._http.parsed(payloads.COMMENTS, response))
        return tuple(sorted(comments, key=lambda comment: (comment.created_at, comment.id)))

    async def read_reviews(self, reference: IssueReference) -> tuple[Review, ...]:
        found = await self._list(
            pull_path(reference, "reviews"),
            {},
            payloads.REVIEWS,
            key=lambda review: review.id,
            needs="read:repository",
        )
        reviews = (review for each in found if (review := each.value()) is not None)
        return tuple(sorted(reviews, key=lambda review: (review.submitted_at, review.id)))

    async def read_line_comments(self, reference: IssueReference, reviews: Collection[int]) -> tuple[Comment, ...]:
        found: list[Comment] = []
        for review in sorted(reviews):
            path = pull_path(reference, "reviews", review, "comments")
            # Somebody may have deleted the review since.
            with contextlib.suppress(ForgeMissing):
                # Gitea gives all comments of a review at once.
                response = await self._http.get(path, needs="read:repository")
                found += [each.value() for each in self._http.parsed(payloads.LINE_COMMENTS, response)]
        return tuple(sorted(found, key=lambda comment: (comment.created_at, comment.id)))

    async def read_diff(self, reference: IssueReference) -> str:
        return await self._diff(f"{pull_path(reference)}.diff", accept="text/plain")

    async def changed_issues(self, name: RepositoryName, *, since: datetime) -> tuple[Issue, ...]:
        found = await self._list(
            repository_path(name, "issues"),
            {"state": "all", "since": time_text(since)},
            payloads.ISSUES,
            key=lambda issue: issue.number,
            needs=self.needs.read_issues,
        )
        return tuple(sorted((issue.value() for issue in found), key=lambda issue: (issue.updated_at, issue.number)))

    async def labelled_issues(self, name: RepositoryName) -> tuple[Issue, ...]:
        found = await self._list(
            repository_path(name, "issues"),
            {"state": "open", "type": "issues"},
            payloads.ISSUES,
            key=lambda issue: issue.number,
            needs=self.needs.read_issues,
            keep=lambda issue: issue.is_open_and_labelled,
        )
        return tuple(issue.value() for issue in found)

    async def labels(self, name: RepositoryName) -> tuple[str, ...]:
        ours = await self._labels(repository_path(name, "labels"), needs=self.needs.read_issues)
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
        response = await self._http.send(
            "POST", issue_path(reference, "comments"), {"body": body}, needs=self.needs.write_issues
        )
        return self._http.parsed(payloads.COMMENT, response).value()

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
                repository_path(name, "pulls"),
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
        response = await self._http.send("POST", repository_path(name, "pulls"), wanted, needs=self.needs.write_pulls)
        return self._http.parsed(payloads.PULL_REQUEST, response).value()

    async def mark_ready(self, reference: IssueReference) -> None:
        pull_request = await self._pull_request(reference)
        if not pull_request.draft:
            return
        path = pull_path(reference)
        title = _DRAFT.sub("", pull_request.title, count=1) if _DRAFT.match(pull_request.title) else pull_request.title
        response = await self._http.send("PATCH", path, {"title": title}, needs=self.needs.write_pulls)
        if self._http.parsed(payloads.PULL_REQUEST, response).draft:
            raise ForgeError(
                f"{reference} is still a draft. Its title begins with a word for drafts that Muster does not know: "
                f"{title[:60]!r}. Remove the word at the forge."
            )

    async def checks(self, name: RepositoryName, sha: str) -> tuple[CommitCheck, ...]:
        found = await self._list(
            repository_path(name, "commits", sha, "statuses"),
            {},
            payloads.STATUSES,
            key=lambda status: status.id,
            needs="read:repository",
        )
        newest = {status.context: status for status in sorted(found, key=lambda status: status.id)}
        return tuple(newest[context].value() for context in sorted(newest))

    async def close(self) -> None:
        await self._http.close()

    async def _pull_request(self, reference: IssueReference) -> payloads.GiteaPullRequest:
        path = pull_path(reference)
        return self._http.parsed(payloads.PULL_REQUEST, await self._http.get(path, needs="read:repository"))
