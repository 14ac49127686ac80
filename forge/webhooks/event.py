"""Read what a delivery is about.

An event is a hint: of its body, only the names of things are taken, and no more than is needed to ask the forge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.model.references import IssueReference, RepositoryName
from forge.webhooks.signature import ForgeKind

#: The header with the name of the event, and the one with the id of the delivery. Forgejo sends Gitea's, too.
_HEADERS: Mapping[ForgeKind, tuple[str, str]] = {
    "gitea": ("X-Gitea-Event", "X-Gitea-Delivery"),
    "github": ("X-GitHub-Event", "X-GitHub-Delivery"),
}
#: Events about an issue or a pull request.
_NUMBERED = frozenset(
    {
        *("issues", "issue_assign", "issue_label", "issue_comment"),
        *("pull_request", "pull_request_comment", "pull_request_sync", "pull_request_review"),
        *("pull_request_review_comment", "pull_request_review_approved", "pull_request_review_rejected"),
        *("pull_request_approved", "pull_request_rejected"),
    }
)
#: Events about a commit.
_COMMITS = frozenset({"status", "check_run", "check_suite"})
_DELIVERY = re.compile(r"[A-Za-z0-9-]{1,64}")
_SHA = r"^[0-9a-f]{40}([0-9a-f]{24})?$"


class MalformedEvent(ValueError):
    """A delivery that is no event of this forge. The message says what was expected, without the delivery's words."""


@dataclass(frozen=True, slots=True)
class ForgeEvent:
    """Something happened at an issue, a pull request or a commit."""

    delivery: str
    name: str
    """The forge's name for the event, such as ``issue_comment``."""
    repository: RepositoryName
    number: int | None
    """Of the issue or pull request; None if the event is about a commit."""
    sha: str | None
    """The commit; None if the event is about an issue or pull request."""

    @property
    def reference(self) -> IssueReference | None:
        """The issue or pull request, if it is about one."""
        return None if self.number is None else IssueReference(self.repository, self.number)


class _Part(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True)


class _Repository(_Part):
    full_name: str


class _Numbered(_Part):
    number: Annotated[int, Field(ge=1, lt=10**18)]


class _Commit(_Part):
    head_sha: Annotated[str, Field(pattern=_SHA)]


class _Body(_Part):
    repository: _Repository
    issue: _Numbered | None = None
    pull_request: _Numbered | None = None
    check_run: _Commit | None = None
    check_suite: _Commit | None = None
    sha: Annotated[str, Field(pattern=_SHA)] | None = None


def read_event(kind: ForgeKind, headers: Mapping[str, str], body: bytes) -> ForgeEvent | None:
    """Return the event of a delivery, or None if Muster has no use for events of its kind.

    Args:
        kind: the forge.
        headers: the request's.
        body: the request's, after its signature was checked.

    Raises:
        MalformedEvent: it is no delivery of this forge.
    """
    name_header, delivery_header = _HEADERS[kind]
    name, delivery = headers.get(name_header, ""), headers.get(delivery_header, "")
    if not name:
        raise MalformedEvent(f"There is no {name_header}.")
    if not _DELIVERY.fullmatch(delivery):
        raise MalformedEvent(f"{delivery_header} is no id of a delivery.")
    if name not in _NUMBERED and name not in _COMMITS:
        return None
    try:
        found = _Body.model_validate_json(body)
        repository = RepositoryName.parse(found.repository.full_name)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"][:3]) or "body"
        raise MalformedEvent(f"The event {name} is not as documented: {where}: {first['msg'][:120]}.") from None
    except ValueError:
        raise MalformedEvent(
            f"The event {name} is not as documented: repository.full_name is not owner/repo."
        ) from None
    if name in _COMMITS:
        commit = found.check_run or found.check_suite
        sha = commit.head_sha if commit is not None else found.sha
        if sha is None:
            raise MalformedEvent(f"The event {name} is not as documented: it names no commit.")
        return ForgeEvent(delivery, name, repository, None, sha)
    numbered = found.issue or found.pull_request
    if numbered is None:
        raise MalformedEvent(f"The event {name} is not as documented: it names no issue and no pull request.")
    return ForgeEvent(delivery, name, repository, numbered.number, None)
