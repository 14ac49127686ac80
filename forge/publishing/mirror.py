"""Muster's bare copy of a forge's repository: what agents' clones are made from, and what commits are compared with.

Only branches that Muster asked for are in it. It has no hooks, borrows no objects, and its settings are Muster's.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core import crash_points, durable_files
from fleet.workspace import repository_discovery, repository_refs, sandboxed_git, untrusted_files
from fleet.workspace.repository_discovery import Repository
from forge.model.references import RepositoryName
from forge.publishing import remote_answers
from forge.publishing.errors import PublishingError
from forge.publishing.forge_remote import ForgeRemote
from forge.publishing.remote_answers import PushOutcome

CREATED: Final = crash_points.declare("publishing.create")
UPDATED: Final = crash_points.declare("publishing.update")
#: Bytes of a pack that is taken from a forge.
MOST_PACK_BYTES: Final = 4 * 1024**3
#: Seconds after which a lock or a draft in the mirror has no owner: more than any step of git may take.
_STALE_S: Final = 3600.0
_HEADS: Final = "refs/heads/"
#: Flaws that commits of many old repositories have. Such commits are at the forge anyway.
_OLD_FLAWS: Final = ("zeroPaddedFilemode", "missingSpaceBeforeDate", "badTimezone", "missingTaggerEntry")


class MirrorNotUpdated(PublishingError):
    """A branch of the forge could not be fetched; `outcome` says how it failed."""

    code = "publishing.not_fetched"

    def __init__(self, message: str, outcome: PushOutcome) -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class RepositoryMirror:
    """The copy of one repository, made or not."""

    folder: Path
    """Where the copies of a forge's repositories are."""
    name: RepositoryName

    @property
    def place(self) -> Path:
        return self.folder / self.name.owner / f"{self.name.name}.git"

    def update(self, remote: ForgeRemote, branch: str) -> Repository:
        """Fetch a branch, and make the mirror if there is none.

        Args:
            remote: the repository at the forge.
            branch: the name without ``refs/heads/``.

        Raises:
            MirrorNotUpdated: it could not be fetched.
            PublishingError: the name is not one of a branch.
            FleetError: the mirror cannot be used.
        """
        name = f"{_HEADS}{branch}"
        check = sandboxed_git.pinned("check-ref-format", name)
        if branch.startswith("-") or sandboxed_git.run(check, timeout_s=repository_refs.LOOK_S).status != 0:
            raise PublishingError(f"{branch[:120]!r} is no name of a branch.", code="publishing.bad_branch")
        with durable_files.locked(self.place):
            repository = self._made(branch)
            self._tidy(name)
            with crash_points.around(UPDATED):
                self._fetch(repository, remote, name)
        return repository

    def _made(self, branch: str) -> Repository:
        """Return the mirror; make it first if it is not there. It gets its name when it is whole."""
        if not self.place.exists():
            part = self.place.with_name(f".{self.place.name}.part")
            untrusted_files.delete(part)
            for folder in ("objects/info", "objects/pack", "refs/heads", "info"):
                (part / folder).mkdir(mode=0o700, parents=True)
            (part / "HEAD").write_text(f"ref: {_HEADS}{branch}\n")
            (part / "config").write_text("[core]\n\trepositoryFormatVersion = 0\n\tbare = true\n")
            with crash_points.around(CREATED):
                os.rename(part, self.place)
                durable_files.sync_folder(self.place.parent)
        repository = repository_discovery.find(self.place)
        if repository is None:
            raise PublishingError(
                f"{self.place} is no git repository. Delete it, and Muster makes it again.", code="publishing.no_mirror"
            )
        repository_discovery.check(repository, ())
        return repository

    def _tidy(self, name: str) -> None:
        """Delete what a killed git left. Only an update writes the branch, so its lock has no owner now."""
        (self.place / f"{name}.lock").unlink(missing_ok=True)
        old = time.time() - _STALE_S
        drafts = (
            *self.place.glob("*.lock"),
            *(self.place / "objects").glob("tmp_*"),
            *(self.place / "objects").glob("??/tmp_*"),
            *(self.place / "objects" / "pack").glob("tmp_*"),
            *(self.place / "objects" / "pack").glob(".tmp-*"),
        )
        for path in drafts:
            try:
                if path.lstat().st_mtime >= old:
                    continue
                if path.is_dir():
                    untrusted_files.delete(path)
                else:
                    path.unlink()
            except FileNotFoundError:
                continue

    def _fetch(self, repository: Repository, remote: ForgeRemote, name: str) -> None:
        flaws = tuple(word for flaw in _OLD_FLAWS for word in ("-c", f"fetch.fsck.{flaw}=ignore"))
        outcome, said = PushOutcome.DECLINED, ""
        try:
            done = remote.run(
                *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"),
                *("--no-auto-gc", "--no-prune", "--refmap=", "--", remote.url, f"+{name}:{name}"),
                git_dir=repository.common,
                settings=flaws,
                file_bytes=MOST_PACK_BYTES,
            )
            if done.status == 0:
                return
            outcome, said = remote_answers.of_failure(done.complaint), sandboxed_git.reason(done.complaint)
        except sandboxed_git.GitFailed as error:
            outcome, said = (PushOutcome.AWAY if error.late else PushOutcome.DECLINED), str(error)
        raise MirrorNotUpdated(
            f"{name.removeprefix(_HEADS)} of {self.name} could not be fetched: {remote.cleaned(said)}", outcome
        )
