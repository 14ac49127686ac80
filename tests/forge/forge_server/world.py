"""What is at the forge: users, organizations, repositories, issues, pull requests; and what people do there."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from tests.forge.forge_server.bare_repository import BareRepository

Kind = Literal["gitea", "github"]


class Conflict(Exception):
    """What was asked for contradicts what is there."""


@dataclass
class Account:
    """A user; also an organization as the owner of repositories."""

    id: int
    login: str
    is_bot: bool = False
    is_org: bool = False
    members: set[str] = field(default_factory=set)
    labels: list[str] = field(default_factory=list)
    """Of an organization, for all of its repositories."""


@dataclass
class Token:
    login: str
    scopes: frozenset[str] | None
    """None: everything."""
    is_revoked: bool = False


@dataclass
class Remark:
    """A comment."""

    id: int
    author: str
    body: str
    created: datetime
    updated: datetime


@dataclass
class LineRemark:
    """A comment on a line of a diff."""

    id: int
    author: str
    body: str
    path: str
    line: int
    is_old: bool
    """Whether it is a line of the file before the change."""
    hunk: str
    commit: str
    created: datetime
    updated: datetime


@dataclass
class SubmittedReview:
    """A review; its state is as Gitea calls it."""

    id: int
    author: str
    body: str
    state: str
    created: datetime
    lines: list[LineRemark] = field(default_factory=list)


@dataclass
class Pull:
    """What a pull request has beside an issue."""

    head_repository: str | None
    head_branch: str
    base_branch: str
    head_sha: str
    base_sha: str
    is_draft: bool
    merged: datetime | None = None
    merge_commit: str | None = None
    reviewers: list[str] = field(default_factory=list)
    reviews: list[SubmittedReview] = field(default_factory=list)
    is_checked: bool = True
    """False: the forge has not found out yet whether it can be merged. Gitea says then that it cannot."""


@dataclass
class Item:
    """An issue, or a pull request."""

    id: int
    number: int
    title: str
    body: str | None
    author: str
    created: datetime
    updated: datetime
    labels: list[str] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)
    closed: datetime | None = None
    remarks: list[Remark] = field(default_factory=list)
    pull: Pull | None = None


@dataclass
class Status:
    """What a check says of a commit."""

    id: int
    sha: str
    context: str
    state: str
    description: str
    target_url: str
    created: datetime
    is_run: bool = False
    """Whether it is a check run of GitHub; `state` is its conclusion then, or its status before."""


@dataclass
class Hook:
    id: int
    url: str
    secret: str
    kind: Kind
    created: datetime


@dataclass
class Repository:
    id: int
    name: str
    """As ``owner/name``."""
    is_private: bool
    git: BareRepository
    created: datetime
    parent: str | None = None
    pending: int = 0
    """Requests that do not find it yet."""
    default_branch: str = "main"
    writers: set[str] = field(default_factory=set)
    readers: set[str] = field(default_factory=set)
    """Members of its organization who may only read."""
    items: dict[int, Item] = field(default_factory=dict)
    statuses: list[Status] = field(default_factory=list)
    protections: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    """Beside those that issues have."""
    hooks: list[Hook] = field(default_factory=list)

    @property
    def owner(self) -> str:
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Happening:
    """What happened, for webhooks."""

    kind: Literal["issue", "label", "assign", "comment", "pull_request", "synchronize", "review"]
    action: str
    """As Gitea calls it."""
    repository: str
    number: int
    by: str
    remark: Remark | None = None
    review: SubmittedReview | None = None
    subject: str | None = None
    """The label or the assignee that changed; Gitea does not tell."""


class ForgeWorld:
    """The state of the forge. Whatever is changed here looks as if somebody had done it in a browser."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[str, Repository] = {}
        self.tokens: dict[str, Token] = {}
        self._last_id = 0
        self._ahead = timedelta()

    def now(self) -> datetime:
        """Return the forge's time, in whole seconds as forges tell it."""
        return (datetime.now(UTC) + self._ahead).replace(microsecond=0)

    def advance(self, seconds: float) -> None:
        """Move the forge's clock forward."""
        self._ahead += timedelta(seconds=seconds)

    # People

    def add_user(self, login: str, *, is_bot: bool = False) -> Account:
        """Add a user, unless there is one already."""
        return self.accounts.setdefault(login, Account(self._id(), login, is_bot))

    def add_org(self, name: str, members: Iterable[str] = ()) -> Account:
        """Add an organization with members, who may push to its repositories."""
        for login in members:
            self.add_user(login)
        return self.accounts.setdefault(name, Account(self._id(), name, is_org=True, members=set(members)))

    def add_token(self, login: str, *, scopes: Iterable[str] | None = None) -> str:
        """Return a new token of a user; with `scopes`, such as ``write:issue``, it may do only that."""
        self.add_user(login)
        text = secrets.token_hex(20)
        self.tokens[text] = Token(login, None if scopes is None else frozenset(scopes))
        return text

    def revoke_tokens(self) -> None:
        """Accept none of the tokens from now on."""
        for token in self.tokens.values():
            token.is_revoked = True

    def delete_user(self, login: str) -> None:
        """Delete a user: what they wrote stays, as a ghost's."""
        del self.accounts[login]
        for account in self.accounts.values():
            account.members.discard(login)
        for repository in self.repositories.values():
            for item in repository.items.values():
                item.assignees = [each for each in item.assignees if each != login]

    def account(self, login: str) -> Account | None:
        """Return an account by its login in any case."""
        return next((each for name, each in self.accounts.items() if name.lower() == login.lower()), None)

    def may_push(self, login: str, name: str) -> bool:
        repository = self.repository(name)
        owner = self.accounts.get(repository.owner)
        members = owner.members if owner is not None else set()
        return login == repository.owner or login in members - repository.readers or login in repository.writers

    def may_read(self, login: str | None, name: str) -> bool:
        repository = self.repository(name)
        return not repository.is_private or (
            login is not None and (login in repository.readers or self.may_push(login, name))
        )

    # Repositories

    def add_repository(
        self,
        name: str,
        *,
        files: Mapping[str, str] | None = None,
        is_private: bool = False,
        writers: Iterable[str] = (),
    ) -> Repository:
        """Add a repository with a first commit on `main`; its owner is made a user if there is none."""
        owner = name.partition("/")[0]
        author = self.add_user(owner).login
        git = BareRepository(self.folder / f"{name}.git")
        git.commit("main", files or {"README.md": f"# {name}\n"}, "Begin.", author=author)
        repository = Repository(self._id(), name, is_private, git, self.now(), writers=set(writers))
        self.repositories[name] = repository
        return repository

    def fork(self, name: str, owner: str, *, pending: int = 0) -> Repository:
        """Add a user's fork of a repository, unless there is one.

        Raises:
            Conflict: the user has another repository of the name.
        """
        parent = self.repository(name)
        self.add_user(owner)
        forked = f"{owner}/{name.partition('/')[2]}"
        if forked in self.repositories:
            if self.repositories[forked].parent != name:
                raise Conflict("The repository with the same name already exists.")
            return self.repositories[forked]
        git = BareRepository(self.folder / f"{forked}.git")
        git.fetch(parent.git, "refs/heads/*", "refs/heads/*")
        self.repositories[forked] = Repository(
            self._id(), forked, parent.is_private, git, self.now(), parent=parent.name, pending=pending, writers={owner}
        )
        return self.repositories[forked]

    def delete_repository(self, name: str) -> None:
        """Delete a repository; pull requests from it stay without one."""
        shutil.rmtree(self.repositories.pop(name).git.path)

    def repository(self, name: str) -> Repository:
        return self.repositories[name]

    def is_found(self, name: str) -> bool:
        """Return whether a request finds a repository, and count it: a fork may not be there yet."""
        repository = self.repositories.get(name)
        if repository is not None and repository.pending:
            repository.pending -= 1
            return False
        return repository is not None

    def commit(
        self, name: str, branch: str, files: Mapping[str, str | None], *, message: str = "Change.", by: str = "ana"
    ) -> str:
        """Commit onto a branch at the forge, as a push of somebody else does. Return the commit's id."""
        repository = self.repository(name)
        sha = repository.git.commit(branch, files, message, author=by, start=repository.default_branch)
        self.branches_moved(name, by=by)
        return sha

    def protect(self, name: str, *patterns: str) -> None:
        """Protect branches from every push."""
        repository = self.repository(name)
        repository.protections += patterns
        repository.git.protect(repository.protections)

    def add_webhook(self, name: str, url: str, *, secret: str, kind: Kind = "gitea") -> Hook:
        """Send the events of a repository to an address, as Gitea's or as GitHub's."""
        hook = Hook(self._id(), url, secret, kind, self.now())
        self.repository(name).hooks.append(hook)
        return hook

    def add_status(
        self, name: str, sha: str, context: str, state: str, *, description: str = "", target_url: str = ""
    ) -> None:
        """Say something of a commit as CI does: ``pending``, ``success``, ``failure`` or ``error``."""
        status = Status(self._id(), sha, context, state, description, target_url, self.now())
        self.repository(name).statuses.append(status)

    def add_check_run(self, name: str, sha: str, context: str, state: str) -> None:
        """Add a check run, which only GitHub has: ``queued``, ``in_progress``, or a conclusion."""
        status = Status(self._id(), sha, context, state, "", "", self.now(), is_run=True)
        self.repository(name).statuses.append(status)

    # Issues

    def add_issue(
        self,
        name: str,
        title: str,
        *,
        body: str | None = "",
        author: str,
        labels: Sequence[str] = (),
        assignees: Sequence[str] = (),
    ) -> int:
        """Open an issue and return its number. Its first labels and assignees send no events of their own."""
        item = self._item(name, title, body, author)
        item.labels, item.assignees = list(labels), list(assignees)
        self._happened("issue", "opened", name, item.number, author)
        return item.number

    def item(self, name: str, number: int) -> Item:
        """Return an issue or a pull request."""
        return self.repository(name).items[number]

    def label(self, name: str, number: int, label: str, *, by: str) -> None:
        """Add a label."""
        item = self._changed(name, number)
        if label not in item.labels:
            item.labels.append(label)
            self._happened("label", "label_updated", name, number, by, subject=label)

    def unlabel(self, name: str, number: int, label: str, *, by: str) -> None:
        """Remove a label."""
        item = self._changed(name, number)
        item.labels.remove(label)
        self._happened("label", "label_updated" if item.labels else "label_cleared", name, number, by, subject=label)

    def assign(self, name: str, number: int, login: str, *, by: str) -> None:
        """Add an assignee."""
        item = self._changed(name, number)
        if login not in item.assignees:
            item.assignees.append(login)
            self._happened("assign", "assigned", name, number, by, subject=login)

    def unassign(self, name: str, number: int, login: str, *, by: str) -> None:
        """Remove an assignee."""
        self._changed(name, number).assignees.remove(login)
        self._happened("assign", "unassigned", name, number, by, subject=login)

    def comment(self, name: str, number: int, body: str, *, by: str) -> Remark:
        """Write a comment."""
        remark = Remark(self._id(), by, body, self.now(), self.now())
        self._changed(name, number).remarks.append(remark)
        self._happened("comment", "created", name, number, by, remark=remark)
        return remark

    def edit_comment(self, name: str, comment_id: int, body: str, *, by: str) -> Remark:
        """Change a comment.

        Raises:
            KeyError: there is none.
        """
        for item in self.repository(name).items.values():
            for remark in item.remarks:
                if remark.id == comment_id:
                    remark.body, remark.updated = body, self.now()
                    self._changed(name, item.number)
                    self._happened("comment", "edited", name, item.number, by, remark=remark)
                    return remark
        raise KeyError(comment_id)

    def edit(
        self,
        name: str,
        number: int,
        *,
        by: str,
        title: str | None = None,
        body: str | None = None,
        draft: bool | None = None,
    ) -> Item:
        """Change title or text. On Gitea a title's beginning makes a draft, on GitHub `draft` does."""
        item = self._changed(name, number)
        if title is not None:
            item.title = title
        if body is not None:
            item.body = body
        if item.pull is not None and draft is not None:
            item.pull.is_draft = draft
        self._happened("pull_request" if item.pull is not None else "issue", "edited", name, number, by)
        return item

    def close_item(self, name: str, number: int, *, by: str) -> None:
        """Close an issue or a pull request."""
        item = self._changed(name, number)
        item.closed = self.now()
        self._happened("pull_request" if item.pull is not None else "issue", "closed", name, number, by)

    def reopen(self, name: str, number: int, *, by: str) -> None:
        """Open it again."""
        item = self._changed(name, number)
        item.closed = None
        self._happened("pull_request" if item.pull is not None else "issue", "reopened", name, number, by)

    # Pull requests

    def open_pull(
        self, name: str, *, title: str, body: str | None, head: str, base: str, draft: bool = False, by: str
    ) -> Item:
        """Open a pull request from ``branch`` or ``owner:branch``.

        Raises:
            KeyError: a branch or the fork does not exist.
            Conflict: there is one already, or nothing to merge.
        """
        repository = self.repository(name)
        owner, colon, branch = head.rpartition(":")
        source = self._fork_of(repository, owner) if colon and owner != repository.owner else repository
        head_sha = source.git.sha(f"refs/heads/{branch}")
        base_sha = repository.git.sha(f"refs/heads/{base}")
        if head_sha is None or base_sha is None:
            raise KeyError(head if head_sha is None else base)
        for other in repository.items.values():
            pull = other.pull
            if pull is None or other.closed is not None:
                continue
            if (pull.head_repository, pull.head_branch, pull.base_branch) == (source.name, branch, base):
                raise Conflict(f"pull request already exists for these targets [id: {other.id}, index: {other.number}]")
        item = self._item(name, title, body, by)
        item.pull = Pull(source.name, branch, base, head_sha, base_sha, draft)
        repository.git.fetch(source.git, f"refs/heads/{branch}", f"refs/pull/{item.number}/head")
        self._happened("pull_request", "opened", name, item.number, by)
        return item

    def is_mergeable(self, name: str, number: int) -> bool:
        """Return whether git can merge a pull request now."""
        repository, pull = self.repository(name), self.pull(name, number)
        base = repository.git.sha(f"refs/heads/{pull.base_branch}")
        return base is not None and repository.git.is_mergeable(base, pull.head_sha)

    def merge(self, name: str, number: int, *, by: str) -> str:
        """Merge a pull request by a merge commit, and return that."""
        item, pull = self._changed(name, number), self.pull(name, number)
        message = f"Merge pull request '{item.title}' (#{number})"
        pull.merge_commit = self.repository(name).git.merge(pull.base_branch, pull.head_sha, message, author=by)
        pull.merged = item.closed = self.now()
        self._happened("pull_request", "closed", name, number, by)
        return pull.merge_commit

    def review(
        self,
        name: str,
        number: int,
        body: str,
        *,
        by: str,
        state: str = "COMMENT",
        lines: Sequence[tuple[str, int, str]] = (),
        is_old: bool = False,
    ) -> SubmittedReview:
        """Review a pull request: ``APPROVED``, ``REQUEST_CHANGES``, ``COMMENT``, or ``PENDING``, which nobody sees.

        Args:
            name: of the repository.
            number: of the pull request.
            body: the text of the review as a whole.
            by: who reviews.
            state: as above.
            lines: comments on lines: the path, the line, and the text.
            is_old: whether those lines are of the files before the change.
        """
        review = SubmittedReview(self._id(), by, body, state, self.now())
        for path, line, text in lines:
            self._add_line(name, number, review, text, by=by, path=path, line=line, is_old=is_old)
        self._changed(name, number)
        self.pull(name, number).reviews.append(review)
        if state != "PENDING":
            self.happened(Happening("review", "reviewed", name, number, by, review=review))
        return review

    def reply_on_line(self, name: str, number: int, review: SubmittedReview, body: str, *, by: str) -> LineRemark:
        """Answer the first comment on a line of a review, as one does on Gitea: the answer belongs to that review."""
        first = review.lines[0]
        remark = self._add_line(
            name, number, review, body, by=by, path=first.path, line=first.line, is_old=first.is_old
        )
        self._changed(name, number)
        self.happened(Happening("review", "reviewed", name, number, by, review=review))
        return remark

    def edit_on_line(self, name: str, number: int, remark: LineRemark, body: str) -> None:
        """Change a comment on a line."""
        remark.body, remark.updated = body, self.now()
        self._changed(name, number)

    def _add_line(
        self, name: str, number: int, review: SubmittedReview, body: str, *, by: str, path: str, line: int, is_old: bool
    ) -> LineRemark:
        pull, git = self.pull(name, number), self.repository(name).git
        hunk = hunk_of(git.diff(pull.base_sha, pull.head_sha), path, line, is_old=is_old)
        remark = LineRemark(self._id(), by, body, path, line, is_old, hunk, pull.head_sha, self.now(), self.now())
        review.lines.append(remark)
        return remark

    def labels_of(self, name: str) -> list[str]:
        """Return the labels of a repository."""
        repository = self.repository(name)
        used = [label for item in repository.items.values() for label in item.labels]
        return list(dict.fromkeys((*repository.labels, *used)))

    def pull(self, name: str, number: int) -> Pull:
        found = self.item(name, number).pull
        assert found is not None
        return found

    def branches_moved(self, name: str, *, by: str) -> None:
        """Bring open pull requests from a repository up to date with its branches."""
        source = self.repository(name)
        for repository in self.repositories.values():
            for item in repository.items.values():
                pull = item.pull
                if pull is None or item.closed is not None or pull.head_repository != name:
                    continue
                sha = source.git.sha(f"refs/heads/{pull.head_branch}")
                if sha is not None and sha != pull.head_sha:
                    repository.git.fetch(source.git, f"refs/heads/{pull.head_branch}", f"refs/pull/{item.number}/head")
                    pull.head_sha, item.updated = sha, self.now()
                    self._happened("synchronize", "synchronized", repository.name, item.number, by)

    def happened(self, happening: Happening) -> None:
        """Tell what happened; the server sends it to webhooks."""

    def _fork_of(self, repository: Repository, owner: str) -> Repository:
        for other in self.repositories.values():
            if other.owner == owner and other.parent == repository.name:
                return other
        raise KeyError(owner)

    def _item(self, name: str, title: str, body: str | None, author: str) -> Item:
        items = self.repository(name).items
        number = len(items) + 1
        items[number] = Item(self._id(), number, title, body, author, self.now(), self.now())
        return items[number]

    def _changed(self, name: str, number: int) -> Item:
        item = self.item(name, number)
        item.updated = self.now()
        return item

    def _happened(
        self,
        kind: Literal["issue", "label", "assign", "comment", "pull_request", "synchronize"],
        action: str,
        name: str,
        number: int,
        by: str,
        *,
        remark: Remark | None = None,
        subject: str | None = None,
    ) -> None:
        self.happened(Happening(kind, action, name, number, by, remark, subject=subject))

    def _id(self) -> int:
        self._last_id += 1
        return self._last_id


def hunk_of(diff: str, path: str, line: int, *, is_old: bool = False) -> str:
    """Return the part of a diff of one file that ends with a line of it; empty if the line is in no part."""
    old = new = 0
    is_ours = False
    hunk: list[str] = []
    for each in diff.splitlines():
        if each.startswith("diff --git "):
            is_ours, hunk = each.endswith(f" b/{path}"), []
        elif each.startswith("@@"):
            places = each.split()
            old = abs(int(places[1].partition(",")[0]))
            new = int(places[2].partition(",")[0])
            hunk = [each]
        elif is_ours and hunk:
            hunk.append(each)
            if each[:1] != "+":
                if is_old and old == line:
                    return "\n".join(hunk)
                old += 1
            if each[:1] != "-":
                if not is_old and new == line:
                    return "\n".join(hunk)
                new += 1
    return ""
