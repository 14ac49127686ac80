"""What is wrong with a branch that is to be pushed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """What a finding is about."""

    EMPTY = "empty"
    """There is nothing to push."""
    UNRELATED = "unrelated"
    """The branch does not descend from its base."""
    MERGE = "merge"
    SIZE = "size"
    PROTECTED = "protected"
    LINK = "link"
    """A symbolic link that leads to a protected path or out of the repository, or a submodule."""
    IDENTITY = "identity"
    """Somebody else than the agent is named as author or committer."""
    TRAILER = "trailer"
    MESSAGE = "message"
    SECRET = "secret"  # noqa: S105 - the name of a kind
    UNSCANNED = "unscanned"
    """The search for secrets did not come to an end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishingFinding:
    """One reason not to push a branch."""

    kind: FindingKind
    sentence: str
    """What was found and what to do, for people and for the agent. Paths and names in it are escaped."""
    commit: str | None = None
    """None: it is about the branch."""
    path: str | None = None
    line: int | None = None
    mark: str | None = None
    """Of a secret: what an operator gives to say that it is none. It does not tell the secret."""
