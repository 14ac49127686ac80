"""What a branch has that its base has not, as values. Everything in it is the agent's word. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FILE_MODES: Final = ("100644", "100755")
LINK_MODE: Final = "120000"
SUBMODULE_MODE: Final = "160000"


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitIdentity:
    """Who a commit says wrote or made it."""

    name: str
    email: str

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"


@dataclass(frozen=True, kw_only=True, slots=True)
class PathChange:
    """A path that a commit adds, changes or removes. A renamed file is two of them."""

    path: str
    mode: str | None
    """The mode of git after the commit; None: the path is removed."""
    blob: str | None
    """The hash of its content after the commit; None: removed."""
    old_blob: str | None
    """The hash of its content before; None: added."""
    size: int = 0
    """Bytes after the commit."""
    link_target: str | None = None
    """Where a symbolic link leads; None: it is none, or it is too long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BranchCommit:
    """A commit of a branch, with what it changes from its first parent."""

    sha: str
    parents: tuple[str, ...]
    author: CommitIdentity
    committer: CommitIdentity
    message: str
    headers: tuple[str, ...] = ()
    """Names of unusual header lines, such as ``encoding``."""
    changes: tuple[PathChange, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class BranchListing:
    """The commits of a branch that its base does not have, oldest first."""

    base: str
    tip: str
    descends: bool
    """Whether the base is in the history of the branch."""
    commits: tuple[BranchCommit, ...]
    cut: bool = False
    """There is more than anybody checks; the commits are not all of it."""
    baseline: bytes | None = None
    """``.secrets.baseline`` of the base."""
    protected: tuple[str, ...] = ()
    """Paths that ``.muster/merge.yaml`` of the base protects, or of what the branch is proposed for."""
