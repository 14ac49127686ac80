"""What happens to the branch in the person's repository when an agent's work was fetched. Pure.

An agent has two names there. ``refs/muster-agents/AGENT`` is Muster's: where the agent's branch was when it was last
fetched, whatever it was rewritten to; it also keeps git from throwing away what the clone borrows. The branch
``muster/AGENT`` is the person's to merge, check out, commit to and delete, so it is moved along only where nothing of
theirs is lost by it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Held: TypeAlias = Literal["", "checked out", "diverged", "blocked"]
"""Why the person's branch was left where it is; empty: it was not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """The person's branch as it stands."""

    commit: str
    checked_out: bool
    """In a working tree of the person's: moving it would put that tree and its HEAD at odds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BranchStep:
    """What to do about it."""

    move: bool
    held: Held = ""


def step(branch: Branch | None, *, tip: str, ours: Collection[str | None], behind: bool) -> BranchStep:
    """Return what to do about the person's branch.

    Args:
        branch: it, if there is one.
        tip: where the agent's branch is.
        ours: where Muster had put the person's branch, or was about to.
        behind: the person's branch is an ancestor of `tip`.
    """
    if branch is None:
        return BranchStep(move=True)
    if branch.commit == tip:
        return BranchStep(move=False)
    if branch.commit not in ours and not behind:
        return BranchStep(move=False, held="diverged")
    if branch.checked_out:
        return BranchStep(move=False, held="checked out")
    return BranchStep(move=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What was taken over from an agent's clone."""

    branch: str
    kept: str
    """Where Muster keeps it, without ``refs/``."""
    folder: Path
    """The person's repository."""
    tip: str
    commits: int
    """How many there are that were not there before; 0 when the agent took some back."""
    held: Held
    shows: bool = True
    """Its files are as they were in none of the commits before."""

    def sentence(self, code: Callable[[str], str] = str) -> str:
        """This in a line for the operator. `code` marks names and commands."""
        where = f"{code(self.branch)} in {code(_shown(self.folder))}"
        if self.commits:
            told = f"{self.commits} commit{'s' if self.commits != 1 else ''} on {where}."
        else:
            told = f"{where} is at {code(self.tip[:12])} again."
        match self.held:
            case "checked out":
                return (
                    f"{told} You have that branch checked out: {code(f'git merge {self.kept}')} there brings them in."
                )
            case "diverged":
                return (
                    f"{told} That branch has commits which the agent's has not, so it was left as it is; the agent's "
                    f"work is {code(self.kept)} there."
                )
            case "blocked":
                return (
                    f"{told} That branch could not be made, perhaps because there is a branch {code('muster')}; the "
                    f"agent's work is {code(self.kept)} there."
                )
        return told


@dataclass(frozen=True, kw_only=True, slots=True)
class CloneCondition:
    """What of an agent's clone is nowhere else."""

    changed: int
    """Files that are not committed."""
    commits: int
    """Commits that were not fetched: of other branches than its own, of none, or put aside (stashed)."""

    @property
    def clean(self) -> bool:
        return not self.changed and not self.commits

    def sentence(self) -> str:
        parts = []
        if self.changed:
            parts.append(f"{self.changed} file{'s' if self.changed != 1 else ''} with changes that are not committed")
        if self.commits:
            parts.append(f"{self.commits} commit{'s' if self.commits != 1 else ''} that are on no branch of yours")
        return " and ".join(parts) or "nothing that is not in your repository"


def _shown(folder: Path) -> str:
    try:
        return f"~/{folder.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(folder)
