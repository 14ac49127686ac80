"""An agent's branch in a git folder that is made for one look, and deleted afterwards.

Nothing of an agent's reaches the mirror before it was checked. What is fetched is bounded, and a folder that a killed
process left is deleted before the next look. Its settings and attributes are Muster's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core import crash_points, durable_files
from fleet.workspace import own_git_folder, repository_refs, sandboxed_git, untrusted_files
from fleet.workspace.clone import Clone
from fleet.workspace.fetch_bounds import FetchBounds
from fleet.workspace.repository_discovery import Repository
from fleet.workspace.sandboxed_git import Done
from forge.publishing.errors import BranchTooLarge, PublishingError

FETCHED: Final = crash_points.declare("publishing.fetch")
#: The agent's branch, and the commit on which its work began, in the folder.
_BRANCH: Final = "refs/heads/incoming"
_BASE: Final = "refs/heads/base"
#: Git does not fetch into the branch that HEAD names.
_NOTHING: Final = "refs/heads/nothing"
#: Seconds for one step of looking.
STEP_S: Final = 120.0
#: Address space of git while it reads, in bytes.
_READING_BYTES: Final = 2**30
#: Longer files are not kept in memory by git.
_STREAMED_BYTES: Final = 2**20
#: What git says if a file's size or its memory reaches the limit.
_TOO_LARGE: Final = ("File too large", "Out of memory", "mmap failed", "Cannot allocate")
#: Bytes that git keeps in memory before it writes them.
_NEARLY: Final = 2**16


@dataclass(frozen=True, kw_only=True, slots=True)
class IncomingBounds:
    """How much is taken over from an agent at most."""

    pack_bytes: int = 64 * 1000**2
    """Bytes of all new objects together, compressed."""
    memory_bytes: int = 2 * 1024**3
    """Address space of a process of git, in bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IncomingBranch:
    """A branch that was fetched from an agent's clone."""

    git_dir: Path
    mirror: Repository
    """It has the objects of the base, which the git folder borrows."""
    base: str
    tip: str
    given_up: Callable[[], bool]
    newest_base: str | None = None
    """What the branch is proposed for, by now. An agent may choose an older base, but not older rules."""

    def git(self, *arguments: str, told: bytes = b"", cut_at: int | None = None) -> Done:
        """Run git on it in the sandbox, where nothing can be changed.

        Raises:
            FleetError: it took too long, or bubblewrap is not installed.
        """
        shown = (self.git_dir, *(store for store in self.mirror.stores() if store.is_dir()))
        settings = FetchBounds(streamed_bytes=_STREAMED_BYTES).settings()
        command = sandboxed_git.pinned(*settings, *arguments, git_dir=self.git_dir)
        return sandboxed_git.run(
            sandboxed_git.inside(command, readonly=shown, cwd=self.git_dir),
            timeout_s=STEP_S,
            memory_bytes=_READING_BYTES,
            cut_at=cut_at,
            told=told,
            given_up=self.given_up,
        )

    def output(self, *arguments: str, told: bytes = b"") -> bytes:
        """Return what git says.

        Raises:
            PublishingError: git failed.
            FleetError: it took too long, or bubblewrap is not installed.
        """
        done = self.git(*arguments, told=told)
        if done.status != 0:
            raise PublishingError(f"The branch cannot be read: {sandboxed_git.reason(done.complaint)} Try again.")
        return done.output


@contextlib.contextmanager
def opened(
    folder: Path,
    clone: Clone,
    mirror: Repository,
    base: str,
    *,
    bounds: IncomingBounds | None = None,
    given_up: Callable[[], bool] = lambda: False,
) -> Iterator[IncomingBranch | None]:
    """Fetch an agent's branch into a new git folder, which exists as long as the context.

    Args:
        folder: where the git folder is made; nothing else may be in it. One at a time can be open.
        clone: the agent's, which was made from the mirror.
        mirror: Muster's repository with the base.
        base: the commit on which the work began.
        bounds: how much is taken over at most; the defaults if None.
        given_up: whether nobody waits for it any more.

    Yields:
        None if the clone has no branch of the agent's.

    Raises:
        BranchTooLarge: the bounds were reached. The disk has nothing of it any more.
        PublishingError: the mirror does not have the base.
        FleetError: the clone cannot be read.
    """
    bounds = bounds or IncomingBounds()
    with durable_files.locked(folder):
        untrusted_files.delete(folder)
        try:
            with crash_points.around(FETCHED):
                incoming = _fetched(folder.resolve(), clone, mirror, base, bounds, given_up)
            yield incoming
        finally:
            untrusted_files.delete(folder)


def _fetched(
    folder: Path,
    clone: Clone,
    mirror: Repository,
    base: str,
    bounds: IncomingBounds,
    given_up: Callable[[], bool],
) -> IncomingBranch | None:
    if repository_refs.COMMIT.fullmatch(base) is None or repository_refs.commit(mirror, base) != base:
        raise PublishingError(f"The mirror {mirror.folder} does not have the commit {base[:80]!r}. Update it first.")
    own_git_folder.make(folder, mirror, head=_NOTHING, digits=len(base))
    here = Repository(folder=folder, git_dir=folder, common=folder, bare=True)
    # Git asks only for what is not in the history of its own branches.
    repository_refs.point(here, _BASE, base)
    limits = FetchBounds(pack_bytes=bounds.pack_bytes, memory_bytes=bounds.memory_bytes, streamed_bytes=_STREAMED_BYTES)
    try:
        if not clone.fetch_into(folder, _BRANCH, bounds=limits):
            return None
    except sandboxed_git.GitFailed as error:
        # What is written when the limit is reached ends the process that writes, before it can say why.
        full = any(path.stat().st_size > bounds.pack_bytes - _NEARLY for path in folder.glob("objects/pack/*"))
        if full or any(sign in error.complaint for sign in _TOO_LARGE):
            raise BranchTooLarge(
                f"What {clone.agent} committed has more than {bounds.pack_bytes // 1000**2} MB, compressed, or needs "
                "too much memory. Nothing was pushed. Have it take large files out of all its commits."
            ) from None
        raise
    tip = repository_refs.commit(here, _BRANCH)
    if tip is None:
        raise PublishingError(f"The branch of {clone.agent} is no commit. Have it make its branch again.")
    return IncomingBranch(git_dir=folder, mirror=mirror, base=base, tip=tip, given_up=given_up)
