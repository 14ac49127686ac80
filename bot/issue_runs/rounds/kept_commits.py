"""The commits of ended runs, each in a git folder apart. Everything here blocks.

Nobody checked them, so they must not be in the copy of the repository: other agents' clones borrow its objects. The
folder borrows from it instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.issue_runs.rounds.workspace import RunGround
from core import durable_files
from database.queries.forge.issue_runs import IssueRun
from fleet.workspace import find, own_git_folder, repository_refs, untrusted_files
from fleet.workspace.fetch_bounds import FetchBounds
from fleet.workspace.repository_discovery import Repository

#: Owners at a forge do not begin with a dot, so this is none.
_FOLDER: Final = ".kept"
_NOTHING: Final = "refs/heads/nothing"
_BASE: Final = "refs/heads/base"
#: Longer files are not kept in memory by git.
_STREAMED_BYTES: Final = 2**20
_MEMORY_BYTES: Final = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class KeptCommits:
    """What is kept of one run."""

    ground: RunGround
    run: IssueRun

    @property
    def place(self) -> Path:
        name = self.ground.name
        return self.ground.link.folder / _FOLDER / name.owner / name.name / f"{self.run.id}.git"

    @property
    def branch(self) -> str:
        return self.ground.clone.branch

    def keep(self) -> None:
        """Fetch what the agent committed; what an earlier end of the run left there is replaced.

        Raises:
            FleetError: it cannot be fetched.
        """
        clone = self.ground.clone
        record = clone.record()
        mirror = find(self.ground.mirror.place)
        if record is None or record.base is None or mirror is None or not clone.place.exists():
            return
        name = f"refs/heads/{self.branch}"
        with durable_files.locked(self.place):
            part = self.place.with_name(f".{self.place.name}.part")
            untrusted_files.delete(part)
            own_git_folder.make(part, mirror, head=_NOTHING, digits=len(record.base))
            made = Repository(folder=part, git_dir=part, common=part, bare=True)
            # Git asks only for what is not in the history of its own branches.
            repository_refs.point(made, _BASE, record.base)
            bounds = FetchBounds(memory_bytes=_MEMORY_BYTES, streamed_bytes=_STREAMED_BYTES)
            has = clone.fetch_into(part.resolve(), name, bounds=bounds)
            tip = repository_refs.commit(made, name) if has else None
            if tip is None or tip == record.base:
                untrusted_files.delete(part)
                return
            repository_refs.forget(made, _BASE, record.base)
            untrusted_files.delete(self.place)
            part.rename(self.place)
            durable_files.sync_folder(self.place.parent)

    def tip(self) -> str | None:
        """Return the last commit that is kept; None: nothing is."""
        kept = find(self.place) if self.place.exists() else None
        return None if kept is None else repository_refs.commit(kept, f"refs/heads/{self.branch}")

    def forget(self) -> None:
        """Delete it."""
        untrusted_files.delete(self.place)
