"""Whether an agent's commits show work, which decides whether what it spends has a result."""

from __future__ import annotations

from typing import Final

from fleet.workspace import repository_refs, sandboxed_git
from fleet.workspace.repository_discovery import Repository

#: The newest commits of a history that are compared.
_LOOKED_BACK: Final = 1_000


def shows(repository: Repository, tip: str, last: str | None) -> bool:
    """Return whether the commits that `tip` has and `last` has not show work.

    One of them must leave files in a state that no commit of `last` had. An empty commit shows nothing, and neither
    does one that only reverts another.
    """
    known = last if last is not None and repository_refs.commit(repository, last) is not None else None
    new = _trees(repository, tip, *([f"^{known}"] if known is not None else []))
    return bool(new - (_trees(repository, known) if known is not None else set()))


def _trees(repository: Repository, *revisions: str) -> set[str]:
    ask = sandboxed_git.pinned(
        "rev-list", "--format=%T", f"--max-count={_LOOKED_BACK}", *revisions, "--", git_dir=repository.common
    )
    listed = sandboxed_git.answer(ask, f"Looking at commits in {repository.folder}", timeout_s=repository_refs.LOOK_S)
    return {line for line in listed.splitlines() if not line.startswith("commit ")}
