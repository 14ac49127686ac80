"""Merging the branch of an agent into the branch that is checked out in the person's repository.

The merge is computed from objects alone (git-merge-tree(1), git 2.38), so that nothing in the working tree is touched
before it is known to succeed. Then the person's branch moves forward, and the working tree with it, as in a
fast-forward: git refuses that where it would overwrite changes of the person. Git runs in a sandbox where a
repository's settings could name programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.errors import FleetError, RuntimeMissing
from fleet.workspace import repository_discovery, repository_refs, sandboxed_git
from fleet.workspace.repository_discovery import Repository
from fleet.workspace.sandboxed_git import Done

_MERGE_S: Final = 120.0
_HEADS: Final = "refs/heads/"
#: Conflicts that a message lists.
_LISTED: Final = 5


class NotMerged(FleetError):
    """A branch cannot be merged as things are; the message says why and what to do."""

    code = "branch.not_merged"


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """A branch that was merged."""

    into: str
    """The name of the branch that it was merged into."""
    commits: int

    def words(self) -> str:
        """Return how many commits came in."""
        return "1 commit" if self.commits == 1 else f"{self.commits} commits"


def merge(source: Path, agent: str, title: str, *, began_on: str | None = None) -> Merged | None:
    """Merge the branch of an agent into the branch that is checked out.

    Args:
        source: the person's repository.
        agent: the agent, whose branch is ``muster/AGENT``.
        title: what was asked, for the message of the commit.
        began_on: the branch from which the agent's clone was made, which alone may get its commits; None: any may.

    Returns:
        What was merged; None if the branch has nothing new.

    Raises:
        NotMerged: it cannot be merged as things are.
        FleetError: git failed.
    """
    repository = _opened(source)
    branch = f"muster/{agent}"
    tip = repository_refs.commit(repository, f"{_HEADS}{branch}")
    if tip is None:
        return None
    own = repository_refs.commit(repository, kept := repository_refs.kept(agent))
    if own is not None and not repository_refs.merged(repository, own, (tip,)):
        raise NotMerged(
            f"{branch} has other commits than the agent's, which are at {kept}. Rename that branch with "
            f"`git branch -m {branch} NAME`, or merge what you want yourself."
        )
    into = repository.checked_out()
    base = repository_refs.head(repository)
    if into is None or base is None:
        raise NotMerged(f"no branch is checked out in {source}. Check one out.")
    if repository_refs.merged(repository, tip, (base,)):
        return None
    if began_on is not None and into != began_on:
        raise NotMerged(
            f"{agent} began from the branch {_quoted(began_on)}, but {_quoted(into)} is checked out in {source}. Check "
            f"out {_quoted(began_on)} there, or keep {_quoted(branch)} and merge it yourself."
        )
    commits = repository_refs.count(repository, tip, (base,))
    target = tip if repository_refs.merged(repository, base, (tip,)) else _joined(repository, base, tip, branch, title)
    _move(repository, into, base, target)
    return Merged(into=into, commits=commits)


def _quoted(branch: str) -> str:
    return f"`{branch.replace('`', '')}`"


def fetched(source: Path, agent: str) -> str | None:
    """Return the last commit that Muster fetched from an agent's clone; None if there is none.

    Raises:
        FleetError: git failed.
    """
    found = repository_discovery.find(source)
    return None if found is None else repository_refs.commit(found, repository_refs.kept(agent))


def discard(source: Path, agent: str, own: str | None) -> bool:
    """Delete the branch of an agent, unless it is checked out or has commits that are not the agent's.

    Args:
        source: the person's repository.
        agent: the agent.
        own: the agent's last commit, as `fetched` gave it.

    Returns:
        Whether there is no such branch now.

    Raises:
        FleetError: git failed.
    """
    found = repository_discovery.find(source)
    if found is None:
        return True
    name = f"{_HEADS}muster/{agent}"
    branch = repository_refs.branch(found, name)
    if branch is None:
        return True
    if branch.checked_out or own is None or not repository_refs.merged(found, branch.commit, (own,)):
        return False
    repository_refs.forget(found, name, branch.commit)
    return True


def _opened(source: Path) -> Repository:
    repository = repository_discovery.find(source)
    if repository is None:
        raise NotMerged(f"the repository {source} is not there any more. Put it back.")
    repository_discovery.check(repository, ())
    return repository


def _joined(repository: Repository, base: str, tip: str, branch: str, title: str) -> str:
    """Return a commit that joins both branches."""
    command = sandboxed_git.pinned(
        *("merge-tree", "--write-tree", "--name-only", "--no-messages", base, tip), git_dir=repository.common
    )
    done = _inside(repository, command)
    lines = done.said.splitlines()
    if done.status == 1:
        names = [line for line in lines[1:] if line.strip()]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        listed = ", ".join(f"`{repr(name)[1:-1].replace('`', '')}`" for name in names[:_LISTED])
        raise NotMerged(f"{branch} has conflicts in {listed}{more}. Have the agent merge `origin` into its branch.")
    if done.status != 0 or not lines:
        raise NotMerged(f"git cannot merge {branch}: {sandboxed_git.reason(done.complaint)} Merge it yourself.")
    message = f"Merge {branch}: {title}"
    who = ("-c", "user.name=Muster", "-c", "user.email=muster@muster.invalid")
    join = sandboxed_git.pinned(
        *who, "commit-tree", lines[0], "-p", base, "-p", tip, "-m", message, git_dir=repository.common
    )
    return sandboxed_git.answer(join, f"Merging {branch}", timeout_s=_MERGE_S)


def _inside(repository: Repository, command: Sequence[str]) -> Done:
    """Run a command that may run what the repository's settings name (filters, merge drivers) in a sandbox.

    Raises:
        NotMerged: there is no sandbox on this machine.
    """
    writable = tuple(dict.fromkeys((repository.folder, repository.common, repository.git_dir)))
    try:
        inside = sandboxed_git.inside(
            command, readonly=repository.stores()[1:], writable=writable, cwd=repository.folder
        )
    except RuntimeMissing as error:
        raise NotMerged(f"{error} Install it, or merge the branch yourself and keep it here.") from None
    return sandboxed_git.run(inside, timeout_s=_MERGE_S)


def _move(repository: Repository, into: str, base: str, target: str) -> None:
    """Move the person's branch forward, and the working tree with it."""
    if repository.bare:
        repository_refs.point(repository, f"{_HEADS}{into}", target, base)
        return
    command = sandboxed_git.pinned(
        *(f"--git-dir={repository.git_dir}", f"--work-tree={repository.folder}", "-C", str(repository.folder)),
        *("merge", "--ff-only", "--quiet", "--no-verify", target),
    )
    done = _inside(repository, command)
    if done.status != 0:
        raise NotMerged(
            f"{repository.folder} cannot take it: {sandboxed_git.reason(done.complaint)} Commit or stash what you "
            "changed there."
        )
