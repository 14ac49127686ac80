"""What a branch has to keep to before it is pushed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from forge.publishing.listing import CommitIdentity

#: Paths that decide what runs at the forge or who reviews, and files that change what git does or shows.
PROTECTED_PATHS: Final = (
    ".buildkite",
    ".circleci",
    ".cirrus.yml",
    ".drone.star",
    ".drone.yml",
    ".forgejo/workflows",
    ".gitea/workflows",
    ".github/actions",
    ".github/workflows",
    ".gitlab-ci.yml",
    ".travis.yml",
    ".woodpecker",
    ".woodpecker.yaml",
    ".woodpecker.yml",
    "Jenkinsfile",
    "appveyor.yml",
    "azure-pipelines.yml",
    "**/CODEOWNERS",
    "**/.gitattributes",
    "**/.gitmodules",
    ".muster",
    ".secrets.baseline",
)
#: Whom runtimes name as co-author by default. The address belongs to no person.
_RUNTIMES: Final = ("noreply@anthropic.com",)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishingRules:
    """What is allowed in a branch. The defaults are for a change that a person reviews."""

    identity: CommitIdentity
    """As whom the agent was told to commit."""
    issue: int | None = None
    """The issue of the run. Commits may say that they close it."""
    file_bytes: int = 2 * 1000**2
    """Bytes of one file."""
    total_bytes: int = 20 * 1000**2
    """Bytes of all files together, each as often as it is changed."""
    files: int = 500
    """Changed paths, each as often as it is changed."""
    commits: int = 50
    message_characters: int = 10_000
    protected: tuple[str, ...] = PROTECTED_PATHS
    """Paths and patterns as in ``.muster/merge.yaml``."""
    co_authors: tuple[str, ...] = _RUNTIMES
    """Addresses that ``Co-authored-by`` may name."""
    allowed_marks: frozenset[str] = field(default_factory=frozenset)
    """Marks of findings that an operator declared to be no secrets."""
