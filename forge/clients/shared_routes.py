"""Requests that Gitea and GitHub take alike: Gitea follows GitHub's REST API."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, TypeVar

from pydantic import BaseModel, TypeAdapter

from forge.clients import shared_json
from forge.clients.address import ForgeAddress
from forge.clients.http_core import ForgeHttp, path_of
from forge.clients.membership import membership
from forge.clients.pagination import ForgeList
from forge.clients.shown_diff import shown_diff
from forge.model.references import IssueReference, RepositoryName
from forge.model.values import ForgeUser, RepositoryFacts, TokenFacts

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgeNeeds:
    """What a forge calls the permissions that a token needs, for messages of refusals."""

    members: str
    repository: str
    fork: str
    hooks: str
    read_issues: str
    write_issues: str
    read_pulls: str
    write_pulls: str


class SharedRoutes(ABC):
    """The part of a client that is the same for both."""

    needs: ClassVar[ForgeNeeds]
    page_size: ClassVar[tuple[str, int]]
    """The parameter for the entries of a page, and how many to ask for."""

    def __init__(self, address: ForgeAddress, http: ForgeHttp) -> None:
        self.address = address
        self._http = http
        self._account: ForgeUser | None = None

    @property
    def said_at(self) -> float | None:
        return self._http.said_at

    @abstractmethod
    async def token_facts(self) -> TokenFacts:
        """Return whom the token speaks for, and keep the account."""

    async def is_org_member(self, organization: str, login: str) -> bool:
        return await membership(self._http, organization, login, needs=self.needs.members)

    async def repository(self, name: RepositoryName) -> RepositoryFacts:
        response = await self._http.get(repository_path(name), needs=self.needs.repository)
        found = self._http.parsed(shared_json.REPOSITORY, response)
        return RepositoryFacts(
            name=found.full_name,
            default_branch=found.default_branch,
            clone_url=self.address.clone_url(found.full_name),
            is_private=found.private,
            may_push=found.permissions is not None and found.permissions.push,
            is_fork_of=found.parent.full_name if found.parent is not None else None,
        )

    async def fork(self, name: RepositoryName) -> None:
        await self._http.send("POST", repository_path(name, "forks"), {}, needs=self.needs.fork)

    async def update_description(self, reference: IssueReference, body: str) -> None:
        await self._http.send("PATCH", issue_path(reference), {"body": body}, needs=self.needs.write_issues)

    async def request_review(self, reference: IssueReference, logins: Sequence[str]) -> None:
        path = pull_path(reference, "requested_reviewers")
        await self._http.send("POST", path, {"reviewers": list(logins)}, needs=self.needs.write_pulls)

    async def webhooks(self, name: RepositoryName) -> tuple[str, ...]:
        path = repository_path(name, "hooks")
        found = await self._list(path, {}, shared_json.HOOKS, key=lambda hook: hook.id, needs=self.needs.hooks)
        return tuple(hook.config.url for hook in found if hook.config is not None and hook.config.url)

    async def _diff(self, path: str, *, accept: str) -> str:
        response = await self._http.get(
            path, accept=accept, needs=self.needs.read_pulls, cut_at=self._http.limits.diff_bytes
        )
        return shown_diff(response.body, is_cut=response.is_cut)

    async def _us(self) -> ForgeUser:
        return self._account or (await self.token_facts()).account

    async def _list(
        self,
        path: str,
        query: dict[str, str],
        adapter: TypeAdapter[tuple[T, ...]],
        *,
        key: Callable[[T], Hashable],
        needs: str,
        keep: Callable[[T], bool] = lambda _entry: True,
    ) -> tuple[T, ...]:
        size_name, size = self.page_size
        entries = ForgeList(
            path=path,
            query=query,
            read=lambda response: self._http.parsed(adapter, response),
            key=key,
            keep=keep,
            size_name=size_name,
            size=size,
            needs=needs,
        )
        return await entries.read_all(self._http)


def repository_path(name: RepositoryName, *parts: str | int) -> str:
    """Return the path of something in a repository."""
    return path_of("repos", name.owner, name.name, *parts)


def issue_path(reference: IssueReference, *parts: str) -> str:
    """Return the path of something in an issue, or in what a pull request shares with one."""
    return repository_path(reference.repository, "issues", reference.number, *parts)


def pull_path(reference: IssueReference, *parts: str | int) -> str:
    """Return the path of something in a pull request."""
    return repository_path(reference.repository, "pulls", reference.number, *parts)


def time_text(moment: datetime) -> str:
    """Write a time as RFC 3339, in whole seconds and rather too early."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
