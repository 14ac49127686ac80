"""The names in the person's repository: reading them, setting them, comparing them.

An agent may have worked right in that repository once, so its settings are not obeyed
(`fleet.workspace.sandboxed_git.pinned`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fleet.workspace import sandboxed_git
from fleet.workspace.branch_update import Branch
from fleet.workspace.repository_discovery import Repository

#: Seconds that looking may take.
LOOK_S: Final = 60.0

_HEADS: Final = "refs/heads/"
COMMIT: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def kept(agent: str) -> str:
    """Return Muster's own name for the commits that were fetched last from an agent's clone."""
    return f"refs/muster-agents/{agent}"


def commit(repository: Repository, name: str, *, git_dir: Path | None = None) -> str | None:
    """Return the commit that a name stands for; None when there is none.

    Args:
        git_dir: where HEAD is looked up, when it is a linked worktree's.
    """
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    said = sandboxed_git.run(
        sandboxed_git.pinned(*words, git_dir=git_dir or repository.common), timeout_s=LOOK_S
    ).said.strip()
    return said if COMMIT.fullmatch(said) else None


def head(repository: Repository) -> str | None:
    """Return the commit that is checked out; None when there is none yet."""
    return commit(repository, "HEAD", git_dir=repository.git_dir)


def merged(repository: Repository, one: str, into: Sequence[str | None]) -> bool:
    """Return whether one of these names, or commits, has the commit `one` in its history."""
    for name in into:
        if name is not None and (target := commit(repository, name)) is not None:
            ask = sandboxed_git.pinned("merge-base", "--is-ancestor", one, target, git_dir=repository.common)
            if sandboxed_git.run(ask, timeout_s=LOOK_S).status == 0:
                return True
    return False


def count(repository: Repository, tip: str, without: Sequence[str | None]) -> int:
    """Return how many commits `tip` has that none of the others has."""
    before = [f"^{each}" for each in without if each is not None and commit(repository, each) is not None]
    ask = sandboxed_git.pinned("rev-list", "--count", tip, *before, "--", git_dir=repository.common)
    return int(sandboxed_git.answer(ask, f"Counting commits in {repository.folder}", timeout_s=LOOK_S))


def branch(repository: Repository, name: str) -> Branch | None:
    """Return the branch of this full name (``refs/heads/...``), if it is there."""
    words = ("for-each-ref", "--format=%(refname) %(objectname) %(worktreepath)", name)
    listed = sandboxed_git.answer(
        sandboxed_git.pinned(*words, git_dir=repository.common), "Looking for a branch", timeout_s=LOOK_S
    )
    for line in listed.splitlines():
        found, at, *tree = line.split(" ", 2)
        if found == name:
            return Branch(commit=at, checked_out=bool(tree and tree[0]))
    return None


def worktree(repository: Repository, name: str) -> Path | None:
    """Return the working tree in which the branch of this full name is checked out; None: in none."""
    words = ("for-each-ref", "--format=%(refname)%00%(worktreepath)", name)
    listed = sandboxed_git.answer(
        sandboxed_git.pinned(*words, git_dir=repository.common), "Looking for a branch", timeout_s=LOOK_S
    )
    for line in listed.splitlines():
        found, _, tree = line.partition("\0")
        # A bare repository has a HEAD, but no files that go with it.
        if found == name and tree and not (repository.bare and Path(tree) == repository.common):
            return Path(tree)
    return None


def agents_with_branches(repository: Repository) -> frozenset[str]:
    """Return the names of the agents that have a branch, or fetched commits, in the repository."""
    words = ("for-each-ref", "--format=%(refname)", "refs/heads/muster/", "refs/muster-agents/")
    listed = sandboxed_git.answer(
        sandboxed_git.pinned(*words, git_dir=repository.common), "Looking for branches", timeout_s=LOOK_S
    )
    return frozenset(name.rpartition("/")[2] for name in listed.splitlines())


def names(repository: Repository, below: str) -> list[str]:
    """Return the full names below one, which ends with a slash."""
    words = ("for-each-ref", "--format=%(refname)", below)
    listed = sandboxed_git.answer(
        sandboxed_git.pinned(*words, git_dir=repository.common), "Looking for names", timeout_s=LOOK_S
    )
    return listed.splitlines()


def on_branch(repository: Repository, one: str, *, without: str) -> bool:
    """Return whether another branch than `without` has the commit `one` in its history."""
    words = ("for-each-ref", "--format=%(refname)", "--contains", one, _HEADS)
    listed = sandboxed_git.answer(
        sandboxed_git.pinned(*words, git_dir=repository.common), "Looking for branches", timeout_s=LOOK_S
    )
    return any(name != f"{_HEADS}{without}" for name in listed.splitlines())


def point(repository: Repository, name: str, to: str, expected: str | None = None) -> None:
    """Let a name stand for a commit; with `expected`, only if it stands for that one now (zeros: for none).

    Raises:
        GitFailed: it cannot be.
    """
    words = (name, to) if expected is None else (name, to, expected)
    command = sandboxed_git.pinned("update-ref", "-m", "muster: an agent's commits", *words, git_dir=repository.common)
    sandboxed_git.answer(command, f"Setting {name} in {repository.folder}", timeout_s=LOOK_S)


def forget(repository: Repository, name: str, expected: str) -> None:
    """Take a name away that stands for `expected`.

    Raises:
        GitFailed: it cannot be.
    """
    command = sandboxed_git.pinned("update-ref", "-d", name, expected, git_dir=repository.common)
    sandboxed_git.answer(command, f"Removing {name} in {repository.folder}", timeout_s=LOOK_S)
