"""The person's repositories: what a folder is to git, found by looking at files alone.

Nothing is run here, and nothing is believed that could lead out of the repository: an agent may have worked right in it
once, and what is a link then, or names other folders, may be its doing.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError
from fleet.workspace import untrusted_files

#: How deep git follows repositories that borrow objects from each other (git's alternates, git-repository-layout(5)).
_DEEPEST_BORROWING = 5
#: Bytes of a file such as HEAD or .git that are read; of settings, and of the list of what it borrows from.
_SMALL = 4096
_LARGE = 2**20

#: What of a repository is copied for its clones to see; git replaces these files as a whole.
COPIED = ("packed-refs", "shallow")

#: How a HEAD begins that names a branch.
_ON_BRANCH = "ref: refs/heads/"
_HEAD = re.compile(r"ref: refs/\S+|[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Repository:
    """A repository of the person's. All paths are real ones."""

    folder: Path
    """What was named: a working tree, or the repository itself when it is bare."""
    git_dir: Path
    """Where its HEAD and index are; of a linked worktree its own."""
    common: Path
    """Where its objects, branches and settings are."""
    bare: bool

    @property
    def objects(self) -> Path:
        return self.common / "objects"

    @property
    def refs(self) -> Path:
        return self.common / "refs"

    @property
    def shallow(self) -> bool:
        """Whether its history was cut off when it was cloned."""
        return (self.common / "shallow").exists()

    def stores(self) -> tuple[Path, ...]:
        """Return the folders its objects are in: its own first, then those that it borrows from."""
        return (self.objects, *dict.fromkeys(_borrowed(self.objects, _DEEPEST_BORROWING)))

    def head(self) -> str:
        """Return what HEAD says: a branch (``ref: refs/heads/main``) or a commit.

        Raises:
            FleetError: neither.
        """
        text = _first_line(self.git_dir / "HEAD")
        if not _HEAD.fullmatch(text):
            raise FleetError(
                f"The HEAD of the repository {self.folder} names no branch and no commit. Repair it with git.",
                code="repository.unusable",
            )
        return text

    def checked_out(self) -> str | None:
        """Return the branch that is checked out; None: a commit is.

        Raises:
            FleetError: neither.
        """
        head = self.head()
        return head.removeprefix(_ON_BRANCH) if head.startswith(_ON_BRANCH) else None


def find(folder: Path) -> Repository | None:
    """Return the repository whose working tree begins in `folder`, or that is bare there; None for any other folder."""
    folder = folder.resolve()
    inside = folder / ".git"
    if inside.is_dir():
        return _opened(folder, inside.resolve(), bare=False)
    if inside.is_file():
        # A linked worktree or a submodule (gitrepository-layout(5), gitfile).
        line = _first_line(inside)
        if not line.startswith("gitdir: "):
            return None
        return _opened(folder, (folder / line.removeprefix("gitdir: ")).resolve(), bare=False)
    return _opened(folder, folder, bare=True)


def check(repository: Repository, hidden: Sequence[Path]) -> None:
    """Refuse a repository of which no clone can be made for an agent.

    Args:
        hidden: Muster's own folders.

    Raises:
        FleetError: why, and what to do.
    """
    folder = repository.folder
    for path in (repository.common, repository.git_dir):
        for own in hidden:
            if path.is_relative_to(own.resolve()):
                raise FleetError(
                    f"The repository {folder} lies in Muster's own folder {own}. Move it out of there.",
                    code="repository.unusable",
                )
    if repository.common.stat().st_uid != os.geteuid():
        raise FleetError(
            f"The repository {folder} belongs to another user, whose settings git would obey. Make a clone of your "
            "own, and name that.",
            code="repository.unusable",
        )
    way_out = "Name a complete clone of it, or write `clone: false` into roster.yaml to let the agent work right in it."
    if not _is_its_own(repository):
        raise FleetError(
            f"The .git of {folder} leads to a repository that does not say it belongs there. {way_out}",
            code="repository.unusable",
        )
    for part in (repository.objects, repository.refs, *(repository.common / name for name in COPIED)):
        if part.is_symlink():
            raise FleetError(
                f"In the repository {folder}, {part} is a link, so no clone of it is made. {way_out}",
                code="repository.unusable",
            )
    if (repository.common / "reftable").exists():
        raise FleetError(
            f"The repository {folder} keeps its branches as a reftable, which Muster cannot read. {way_out}",
            code="repository.unusable",
        )
    if any((repository.objects / "pack").glob("*.promisor")):
        raise FleetError(
            f"The repository {folder} is a partial clone: not all of it is on this machine. {way_out}",
            code="repository.unusable",
        )


def _opened(folder: Path, git_dir: Path, *, bare: bool) -> Repository | None:
    """Return what git takes for a repository: HEAD, objects and refs (its `is_git_directory`)."""
    if not (git_dir / "HEAD").is_file():
        return None
    common = git_dir
    if (git_dir / "commondir").is_file():
        common = (git_dir / _first_line(git_dir / "commondir")).resolve()
    if not (common / "objects").is_dir() or not (common / "refs").is_dir():
        return None
    return Repository(folder=folder, git_dir=git_dir, common=common, bare=bare)


def _is_its_own(repository: Repository) -> bool:
    """Return whether a `.git` that leads elsewhere leads to a repository that leads back: it may have been put there by
    an agent that works around it (a linked worktree's `gitdir`; a submodule's `core.worktree`)."""
    inside = repository.folder / ".git"
    if repository.bare or (inside.is_dir() and not inside.is_symlink()):
        return True
    if inside.is_symlink():
        return False
    back = _first_line(repository.git_dir / "gitdir")
    if back and (repository.git_dir / back).resolve() == inside:
        return True
    settings = _text(repository.common / "config")
    found = re.findall(r"^\s*worktree\s*=\s*(.+?)\s*$", settings, re.MULTILINE)
    trees = [tree for tree in found if "\0" not in tree]
    return any((repository.common / tree.strip('"')).resolve() == repository.folder for tree in trees)


def _borrowed(objects: Path, deep: int) -> Iterator[Path]:
    listed = objects / "info" / "alternates"
    if not deep:
        return
    for line in _text(listed).splitlines():
        if not line or line.startswith("#") or "\0" in line:
            continue
        store = (objects / line).resolve()
        # Only what is a repository's may be shown: a line that was planted must not open another folder.
        if store.name == "objects" and (store.parent / "HEAD").is_file() and (store.parent / "refs").is_dir():
            yield store
            yield from _borrowed(store, deep - 1)


def _text(path: Path) -> str:
    """Return what a file says; nothing where there is none, or something that is not one to be read."""
    return (untrusted_files.content(path, _LARGE) or b"").decode("utf-8", "surrogateescape")


def _first_line(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return ""
        text = os.read(handle, _SMALL).decode("utf-8", "surrogateescape")
    finally:
        os.close(handle)
    line = text.split("\n", 1)[0].strip()
    # No path has one.
    return "" if "\0" in line else line
