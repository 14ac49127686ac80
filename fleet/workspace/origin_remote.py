"""The remote ``origin`` of a clone: the person's repository as an agent may see it.

It lies in the agent's private folder and is shown read-only: the branches and objects of the repository, by links, so
that ``git fetch origin`` finds what the person has committed since; not its settings (which hold credentials), hooks,
logs and worktrees. What git replaces as a whole is copied, since such a file cannot be shown as it changes; it is
brought up to date at each start.
"""

from __future__ import annotations

from pathlib import Path

from fleet.errors import FleetError
from fleet.workspace import repository_discovery, sandboxed_git, untrusted_files
from fleet.workspace.repository_discovery import Repository
from fleet.workspace.repository_refs import LOOK_S

#: Bytes of a list of branches: half a million of them.
_LARGEST = 2**25


def show(repository: Repository, origin: Path) -> None:
    """Make `origin`, or bring it up to date.

    Raises:
        FleetError: the repository cannot be shown.
    """
    ask = sandboxed_git.pinned("rev-parse", "--show-object-format", git_dir=repository.git_dir)
    sha256 = sandboxed_git.answer(ask, f"Looking at {repository.folder}", timeout_s=LOOK_S) == "sha256"
    settings = f"[core]\n\trepositoryFormatVersion = {1 if sha256 else 0}\n\tbare = true\n"
    if sha256:
        settings += "[extensions]\n\tobjectFormat = sha256\n"
    origin.mkdir(mode=0o700, exist_ok=True)
    for name, target in (("objects", repository.objects), ("refs", repository.refs)):
        link = origin / name
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    untrusted_files.put(origin / "config", settings.encode())
    untrusted_files.put(origin / "HEAD", f"{repository.head()}\n".encode())
    for name in repository_discovery.COPIED:
        text = untrusted_files.content(repository.common / name, _LARGEST + 1)
        if text is not None and len(text) > _LARGEST:
            raise FleetError(
                f"{repository.common / name} is too long for a list of branches. Find out who wrote it.",
                code="repository.unusable",
            )
        if text is None:
            (origin / name).unlink(missing_ok=True)
        else:
            untrusted_files.put(origin / name, text)


def needed(repository: Repository, origin: Path) -> tuple[Path, ...]:
    """Return the folders that have to be seen for git to work in a clone."""
    return tuple(path for path in (origin, repository.refs, *repository.stores()) if path.is_dir())
