"""How issues and pull requests are named: ``owner/repo#17``."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

#: Names of owners and repositories on Gitea, Forgejo and GitHub. "." and ".." are paths.
_NAME = r"(?!\.{1,2}(?:[/#]|\Z))[A-Za-z0-9._-]{1,100}"
_REPOSITORY = re.compile(rf"({_NAME})/({_NAME})")
_REFERENCE = re.compile(rf"({_NAME})/({_NAME})#([1-9][0-9]{{0,17}})")

_PAGE = re.compile(r"/([^/]+/[^/]+)/([a-z]+)/([1-9][0-9]{0,17})/?")
_ANCHOR = re.compile("[#?]")


@dataclass(frozen=True, slots=True, order=True)
class RepositoryName:
    """A repository of a forge."""

    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"

    def is_same(self, other: RepositoryName) -> bool:
        """Return whether both are one repository: forges know names in any case."""
        return str(self).lower() == str(other).lower()

    @classmethod
    def parse(cls, text: str) -> RepositoryName:
        """Read ``owner/repo``.

        Raises:
            ValueError: the text is something else.
        """
        if not (match := _REPOSITORY.fullmatch(text)):
            raise ValueError(f"{text!r} is no repository. Write it as owner/repo.")
        return cls(match[1], match[2])


@dataclass(frozen=True, slots=True, order=True)
class IssueReference:
    """An issue or a pull request, which share their numbers within a repository."""

    repository: RepositoryName
    number: int

    def __str__(self) -> str:
        return f"{self.repository}#{self.number}"

    @classmethod
    def parse(cls, text: str) -> IssueReference:
        """Read ``owner/repo#17``.

        Raises:
            ValueError: the text is something else.
        """
        if not (match := _REFERENCE.fullmatch(text)):
            raise ValueError(f"{text[:200]!r} is no issue. Write it as owner/repo#17.")
        return cls(RepositoryName(match[1], match[2]), int(match[3]))

    @classmethod
    def of_page(cls, text: str, base: str, kinds: Collection[str]) -> IssueReference | None:
        """Read the address of a page at a forge, as a browser shows it; None: it is none of these.

        Args:
            text: the address.
            base: the address of the forge's start page.
            kinds: what such pages are called there, such as ``issues``.

        Raises:
            ValueError: no repository can be called so.
        """
        page, base = _ANCHOR.split(text, maxsplit=1)[0], base.rstrip("/")
        found = _PAGE.fullmatch(page.removeprefix(base)) if base and page.startswith(f"{base}/") else None
        if found is None or found[2] not in kinds:
            return None
        return cls(RepositoryName.parse(found[1]), int(found[3]))

    @classmethod
    def of_issue(cls, text: str, base: str) -> IssueReference:
        """Read what a person calls an issue: ``owner/repo#17``, or the address of its page.

        Raises:
            ValueError: the text is something else.
        """
        if "://" not in text:
            return cls.parse(text)
        if (found := cls.of_page(text, base, ("issues",))) is None:
            raise ValueError(f"{text[:200]!r} is no issue of the configured forge. Write it as owner/repo#17.")
        return found
