"""JSON that Gitea and GitHub write alike, as Gitea follows GitHub's REST API."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Generic, TypeVar

from pydantic import AwareDatetime, Field, PositiveInt, TypeAdapter

from forge.clients.json_types import ForgeJson, FullName, NullableList, NullableText, web_address
from forge.model.values import Comment, DiffPlace, ForgeUser, Issue, MergeState, PullRequest, Review, ReviewVerdict


class UserJson(ForgeJson):
    id: int
    login: str = Field(min_length=1)

    @abstractmethod
    def value(self) -> ForgeUser:
        """Return the user, and whether the forge calls it a bot."""


User = TypeVar("User", bound=UserJson)


class AuthoredJson(ForgeJson, Generic[User]):
    """What somebody wrote."""

    GHOST: ClassVar[ForgeUser]
    """Who wrote it if the forge says null: the account that stands for deleted users."""

    user: User | None
    body: NullableText = ""
    html_url: NullableText = ""

    @property
    def author(self) -> ForgeUser:
        return self.user.value() if self.user is not None else self.GHOST


class LabelJson(ForgeJson):
    name: NullableText = ""


class IssueJson(AuthoredJson[User], Generic[User]):
    number: PositiveInt
    title: NullableText
    state: str
    labels: NullableList[LabelJson | str] = ()
    assignees: NullableList[User] = ()
    pull_request: dict[str, object] | None = None
    updated_at: AwareDatetime

    @property
    def is_open_and_labelled(self) -> bool:
        """Whether it is an open issue with a label, and no pull request."""
        return bool(self.labels) and self.state == "open" and self.pull_request is None

    def value(self) -> Issue:
        return Issue(
            number=self.number,
            title=self.title,
            body=self.body,
            author=self.author,
            is_open=self.state == "open",
            labels=tuple(label if isinstance(label, str) else label.name for label in self.labels),
            assignees=tuple(user.value() for user in self.assignees),
            is_pull_request=self.pull_request is not None,
            url=web_address(self.html_url),
            updated_at=self.updated_at,
        )


class CommentJson(AuthoredJson[User], Generic[User]):
    id: PositiveInt
    created_at: AwareDatetime
    updated_at: AwareDatetime

    @property
    def place(self) -> DiffPlace | None:
        """The line of a diff that it is on, if it is on one."""
        return None

    def value(self) -> Comment:
        url = web_address(self.html_url)
        return Comment(self.id, self.author, self.body, self.created_at, self.updated_at, url, self.place)


class ReviewJson(AuthoredJson[User], Generic[User]):
    id: PositiveInt
    state: NullableText = ""
    submitted_at: AwareDatetime | None = None
    comments_count: int | None = None
    """How many comments on lines it has; only Gitea tells."""

    @property
    @abstractmethod
    def verdict(self) -> ReviewVerdict | None:
        """None for what is no submitted review: a draft, or that somebody is asked for one."""

    def value(self) -> Review | None:
        """Return None for what is no submitted review."""
        if self.verdict is None or self.submitted_at is None:
            return None
        url = web_address(self.html_url)
        return Review(self.id, self.author, self.body, self.verdict, self.submitted_at, url, self.comments_count)


class PermissionsJson(ForgeJson):
    push: bool = False


class ParentJson(ForgeJson):
    full_name: FullName


class RepositoryJson(ForgeJson):
    full_name: FullName
    default_branch: NullableText
    private: bool
    permissions: PermissionsJson | None = None
    parent: ParentJson | None = None


class BranchJson(ForgeJson):
    ref: str
    sha: NullableText = ""
    repo: ParentJson | None = None


class PullRequestJson(AuthoredJson[User], Generic[User]):
    number: PositiveInt
    title: NullableText
    state: str
    draft: bool | None = None
    head: BranchJson
    base: BranchJson
    updated_at: AwareDatetime

    @property
    @abstractmethod
    def is_merged(self) -> bool:
        """Whether it was merged."""

    @property
    @abstractmethod
    def merge(self) -> MergeState:
        """Whether the forge can merge it."""

    def value(self) -> PullRequest:
        return PullRequest(
            number=self.number,
            title=self.title,
            body=self.body,
            author=self.author,
            is_open=self.state == "open",
            is_merged=self.is_merged,
            is_draft=self.draft is True,
            head_repository=self.head.repo.full_name if self.head.repo is not None else None,
            head_branch=self.head.ref,
            head_sha=self.head.sha,
            base_branch=self.base.ref,
            url=web_address(self.html_url),
            updated_at=self.updated_at,
            merge=self.merge,
        )


class HookConfigJson(ForgeJson):
    url: NullableText = ""


class HookJson(ForgeJson):
    id: int
    config: HookConfigJson | None = None


REPOSITORY = TypeAdapter(RepositoryJson)
HOOKS = TypeAdapter(NullableList[HookJson])
