"""An agent's clone of the person's repository: making it, taking over what was committed there, removing it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from core import crash_points
from fleet.errors import FleetError, RuntimeMissing
from fleet.workspace import (
    branch_update,
    clone_record,
    commit_progress,
    origin_remote,
    repository_discovery,
    repository_refs,
    sandboxed_git,
    untrusted_files,
)
from fleet.workspace.branch_update import CloneCondition, Collected, Held
from fleet.workspace.clone_record import CloneRecord
from fleet.workspace.fetch_bounds import LARGEST_PACK, FetchBounds
from fleet.workspace.repository_discovery import Repository

MADE = crash_points.declare("workspace.make")
COLLECTED = crash_points.declare("workspace.collect")
REMOVED = crash_points.declare("workspace.remove")

#: Seconds that git may take to copy a repository and check it out, and to fetch.
_CLONE_S: Final = 900.0
FETCH_S: Final = 120.0
#: The same to look at a working tree of the person's, while an operator waits.
_GLANCE_S: Final = 10.0
_LOCK: Final = "workspace.lock"


class NotClean(FleetError):
    """A clone has what is nowhere else, so it was not removed."""

    code = "workspace.unsaved"


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchedBranch:
    """An agent's branch, whose commits are in the person's repository."""

    repository: Repository
    """The person's."""
    known: CloneRecord
    tip: str | None
    """Where the branch is; None: the clone has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clone:
    """The clone of one agent, made or not."""

    agent: str
    place: Path
    """Where it works."""
    folder: Path
    """Its private folder, which it cannot see: Muster's record of the clone, a lock, and the clone's origin."""

    @property
    def branch(self) -> str:
        return f"muster/{self.agent}"

    @property
    def _kept(self) -> str:
        """Muster's own name for the agent's commits in the person's repository."""
        # Not below refs/muster/: git would take `muster/AGENT` for it, and not for the person's branch.
        return repository_refs.kept(self.agent)

    @property
    def _branch(self) -> str:
        return f"refs/heads/{self.branch}"

    @property
    def _origin(self) -> Path:
        return self.folder / "origin"

    def record(self) -> CloneRecord | None:
        """Return what is known of it; None: it was not made."""
        return clone_record.load(self.folder)

    # --- making -------------------------------------------------------------------------------------------------

    def check(self, source: Path) -> None:
        """See whether the place is free for a clone of `source`, or is one already.

        Raises:
            FleetError: something else is there.
        """
        self._check_no_link()
        known = self.record()
        if not untrusted_files.occupied(self.place) or (known is not None and known.source == source):
            return
        found = "something that is no clone of it" if known is None else f"a clone of {known.source}"
        raise FleetError(
            f"{self.agent} is to work in a clone of {source}, in {self.place}, but there is {found}. Move it away, or "
            f"delete it with `muster kill {self.agent} --discard`; or give the agent another name.",
            code="workspace.in_the_way",
        )

    def prepare(self, repository: Repository, *, sandboxed: bool) -> tuple[Path, ...]:
        """Make the clone if it is not there, and bring its origin up to date.

        Returns:
            What has to be seen, read-only, for git to work in it.

        Raises:
            FleetError: it cannot be made.
        """
        with self._locked():
            self.check(repository.folder)
            origin_remote.show(repository, self._origin)
            known = self.record()
            if known is None or not untrusted_files.occupied(self.place):
                self._make(repository, sandboxed=sandboxed)
            else:
                if sandboxed and not known.sandboxed:
                    replace(known, sandboxed=True).save(self.folder)
                self._prune(repository)
            return origin_remote.needed(repository, self._origin)

    def _make(self, repository: Repository, *, sandboxed: bool) -> None:
        self.place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.clear_parts()
        part = self._part()
        try:
            base = repository_refs.head(repository)
            self._fill(part, repository, base, sandboxed=sandboxed)
            self._protect(repository, base)
            # Known before it is there: what is in the place, and known, is whole.
            on = repository.checked_out()
            began_on = None if on == self.branch else on
            CloneRecord(source=repository.folder, sandboxed=sandboxed, base=base, began_on=began_on).save(self.folder)
            with crash_points.around(MADE):
                part.rename(self.place)
        except BaseException:
            untrusted_files.delete(part)
            raise

    def clear_parts(self) -> list[Path]:
        """Delete what crashes left of clones that were being made or removed. Return what could not be deleted."""
        parts = self.place.parent.glob(f".{self.agent}.*.part")
        return [left for left in parts if not untrusted_files.delete(left)]

    def _prune(self, repository: Repository) -> None:
        """Let the clone forget branches that the person deleted: once their commits are gone, no fetch would work."""
        where = (f"--git-dir={self.place / '.git'}", f"--work-tree={self.place}")
        shown = origin_remote.needed(repository, self._origin)
        # What the agent made of its clone is its own affair, and no reason not to start it.
        with contextlib.suppress(FleetError):
            prune = sandboxed_git.pinned(*where, "remote", "prune", "origin")
            sandboxed_git.run(
                sandboxed_git.inside(prune, readonly=shown, writable=(self.place,), cwd=self.place),
                timeout_s=repository_refs.LOOK_S,
            )

    def _part(self) -> Path:
        return Path(tempfile.mkdtemp(prefix=f".{self.agent}.", suffix=".part", dir=self.place.parent))

    def _fill(self, part: Path, repository: Repository, base: str | None, *, sandboxed: bool) -> None:
        """Clone into `part`, and put it on the agent's branch."""
        needed = origin_remote.needed(repository, self._origin)

        def act(*arguments: str) -> None:
            command = sandboxed_git.pinned("-C", str(part), *arguments)
            if sandboxed:
                command = sandboxed_git.inside(command, readonly=needed, writable=(part,), cwd=part)
            sandboxed_git.answer(command, f"Cloning {repository.folder} for {self.agent}", timeout_s=_CLONE_S)

        identity = (f"user.name={self.agent}", f"user.email={self.agent}@muster.invalid")
        act(
            *("clone", "--quiet", "--no-checkout", "--template=", "--no-recurse-submodules"),
            # Borrowing objects makes it fast and small. Git does not do so where history was cut off.
            *(("--no-local",) if repository.shallow else ("--shared",)),
            *(word for each in identity for word in ("--config", each)),
            *("--", str(self._origin), str(part)),
        )
        if not repository.shallow:
            stores = (self._origin / "objects", *repository.stores()[1:])
            borrowed = "".join(f"{store}\n" for store in stores)
            untrusted_files.put(part / ".git" / "objects" / "info" / "alternates", os.fsencode(borrowed))
        if base is None:
            act("symbolic-ref", "HEAD", self._branch)
            return
        current = repository.checked_out()
        if current is None:
            act("checkout", "--quiet", "--detach", base)
            act("checkout", "--quiet", "--no-track", "-B", self.branch)
            return
        if current != self.branch:
            # It goes on following the branch that it began from.
            act("branch", "--quiet", "-m", current, self.branch)
        act("reset", "--quiet", "--hard")

    def _protect(self, repository: Repository, base: str | None) -> None:
        """Keep git from throwing away what the clone stands on, whatever the person deletes."""
        self._rename_kept(repository)
        old = repository_refs.commit(repository, self._kept)
        if old is not None and not repository_refs.merged(repository, old, (base, self._branch)):
            # Of an earlier clone, and nowhere else.
            repository_refs.point(repository, f"{self._kept}.{old[:12]}", old)
        if base is not None:
            repository_refs.point(repository, self._kept, base)

    # --- taking over --------------------------------------------------------------------------------------------

    def collect(self) -> Collected | None:
        """Fetch what the agent committed on its branch; the same again until it is acknowledged.

        Returns:
            None: there is nothing new, or no clone.

        Raises:
            FleetError: that is not possible.
        """
        with self._locked():
            known = self.record()
            # Of a clone that was being removed when Muster died, everything was taken over.
            if known is None or not self.place.exists() or (not known.held and self._glimpse() == known.last):
                return None
            return self._collect(known)

    def acknowledge(self, collected: Collected) -> None:
        """What was collected is known to those who should know."""
        with self._locked():
            known = self.record()
            if known is not None:
                with crash_points.around(COLLECTED):
                    replace(known, fetched=collected.tip, held=collected.held).save(self.folder)

    def fetch(self) -> FetchedBranch:
        """Fetch what the agent committed on its branch, and leave the person's branch where it is.

        Raises:
            FleetError: that is not possible.
        """
        with self._locked():
            known = self._known()
            repository = self._source(known)
            return FetchedBranch(repository=repository, known=known, tip=self._fetch(repository, known))

    def fetch_into(self, git_dir: Path, name: str, *, bounds: FetchBounds) -> bool:
        """Fetch what the agent committed on its branch into a git folder of Muster's own, as `name` there.

        Neither the repository that the clone was made from nor any record of Muster's changes.

        Args:
            git_dir: the git folder, which borrows the objects of that repository.
            name: the full name of the branch in it.
            bounds: how much is taken over at most.

        Returns:
            Whether the clone has the branch.

        Raises:
            FleetError: it cannot be fetched within the bounds; the git folder may have a part of it.
        """
        with self._locked():
            return self._take(self._source(known := self._known()), known, git_dir, name, bounds)

    def _known(self) -> CloneRecord:
        known = self.record()
        if known is None:
            raise FleetError(f"{self.agent} has no clone of a repository.", code="workspace.no_clone")
        return known

    def _collect(self, known: CloneRecord) -> Collected | None:
        repository = self._source(known)
        ours = (known.last, repository_refs.commit(repository, self._kept))
        tip = self._fetch(repository, known)
        if tip is None or (tip == known.last and not known.held):
            return None
        held = self._move(repository, tip, ours)
        if tip == known.last and held == known.held:
            return None
        return Collected(
            branch=self.branch,
            kept=self._kept.removeprefix("refs/"),
            folder=repository.folder,
            tip=tip,
            commits=repository_refs.count(repository, tip, (known.fetched, known.base)),
            held=held,
            shows=commit_progress.shows(repository, tip, known.last),
        )

    def _source(self, known: CloneRecord) -> Repository:
        repository = repository_discovery.find(known.source)
        if repository is None:
            raise FleetError(
                f"The repository {known.source} is not there any more, and {self.agent}'s workspace {self.place} is a "
                "clone that borrows from it. Put it back, or give the clone up with "
                f"`muster kill {self.agent} --discard`.",
                code="workspace.source_missing",
            )
        repository_discovery.check(repository, ())
        self._rename_kept(repository)
        return repository

    def _rename_kept(self, repository: Repository) -> None:
        """Move what an earlier version kept as ``refs/muster/AGENT``."""
        earlier = f"refs/muster/{self.agent}"
        kept = repository_refs.commit(repository, earlier)
        if kept is None:
            return
        if repository_refs.commit(repository, self._kept) is None:
            repository_refs.point(repository, self._kept, kept)
        repository_refs.forget(repository, earlier, kept)

    def _glimpse(self) -> str | None:
        """Return the commit of the agent's branch where that is easily seen. It is only compared, never followed."""
        seen = untrusted_files.content(self.place / ".git" / "refs" / "heads" / "muster" / self.agent, 80)
        return None if seen is None else seen.decode("ascii", "replace").strip()

    def _fetch(self, repository: Repository, known: CloneRecord) -> str | None:
        """Fetch the agent's branch, and that alone; None: it has none."""
        if not self._take(repository, known, repository.common, self._kept, FetchBounds(pack_bytes=LARGEST_PACK)):
            return None
        return repository_refs.commit(repository, self._kept)

    def _take(self, repository: Repository, known: CloneRecord, git_dir: Path, name: str, bounds: FetchBounds) -> bool:
        """Fetch the agent's branch into a git folder; whether it has one.

        The side that opens the clone runs in the sandbox; so whatever the clone is made to point at, only what the
        agent could see anyway can come from there.
        """
        self._check_no_link()
        serve = sandboxed_git.pinned(*bounds.settings(), "upload-pack", "--timeout=60")
        if known.sandboxed or shutil.which("bwrap") is not None:
            shown = (*origin_remote.needed(repository, self._origin), self.place)
            serve = sandboxed_git.inside(serve, readonly=shown, cwd=self.place)
        command = sandboxed_git.pinned(
            *bounds.settings(),
            *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-gc"),
            *("--no-prune", "--refmap=", f"--upload-pack={shlex.join(serve)}"),
            # As a URL: a plain path that has become a file would be read as a bundle, by this side.
            f"file://{quote(str(self.place / '.git'))}",
            f"+{self._branch}:{name}",
            git_dir=git_dir,
        )
        doing = f"Taking over what {self.agent} committed into {repository.folder}"
        done = sandboxed_git.run(
            command, timeout_s=FETCH_S, file_bytes=bounds.pack_bytes, memory_bytes=bounds.memory_bytes
        )
        if done.status == 0:
            return True
        if "couldn't find remote ref" in done.complaint:
            return False
        raise sandboxed_git.GitFailed(f"{doing} failed: {sandboxed_git.reason(done.complaint)}", done.complaint)

    def _move(self, repository: Repository, tip: str, ours: tuple[str | None, ...]) -> Held:
        """Move the person's branch along, where that is right."""
        branch = repository_refs.branch(repository, self._branch)
        behind = branch is not None and repository_refs.merged(repository, branch.commit, (tip,))
        step = branch_update.step(branch, tip=tip, ours=ours, behind=behind)
        if not step.move:
            return step.held
        expected = branch.commit if branch is not None else "0" * len(tip)
        try:
            repository_refs.point(repository, self._branch, tip, expected)
        except sandboxed_git.GitFailed:
            return "blocked"
        return ""

    # --- looking ------------------------------------------------------------------------------------------------

    def inspect(self) -> CloneCondition:
        """Return what of the clone is nowhere else. Git runs in it for this, so in the sandbox alone.

        Raises:
            FleetError: it cannot be looked at.
        """
        known = self._known()
        repository = self._source(known)
        shown = (*origin_remote.needed(repository, self._origin), self.place)
        fetched = (repository_refs.commit(repository, self._kept), known.base)
        where = (f"--git-dir={self.place / '.git'}", f"--work-tree={self.place}")

        def ask(*arguments: str) -> str:
            command = sandboxed_git.inside(sandboxed_git.pinned(*where, *arguments), readonly=shown, cwd=self.place)
            return sandboxed_git.answer(
                command, f"Looking at the workspace {self.place}", timeout_s=repository_refs.LOOK_S
            )

        elsewhere = ("--not", "--remotes", *(commit for commit in fetched if commit))
        try:
            status = ask("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
            commits = ask("rev-list", "--ignore-missing", "--count", "--exclude=refs/tags/*", "--all", *elsewhere, "--")
        except RuntimeMissing as error:
            raise FleetError(
                f"Whether the workspace {self.place} has something that is nowhere else cannot be seen: git would run "
                f"there, and do what the agent set up for it. {error}",
                code="workspace.unchecked",
            ) from None
        return CloneCondition(changed=sum(1 for entry in status.split("\0") if entry), commits=int(commits))

    # --- removing -----------------------------------------------------------------------------------------------

    def remove(self, *, discard: bool = False) -> bool:
        """Delete the clone: when all of it is in the person's repository, or with `discard` in any case.

        What was fetched stays in the person's repository.

        Returns:
            Whether there was one.

        Raises:
            NotClean: it has what is nowhere else.
            FleetError: it cannot be looked at, or not be deleted.
        """
        with self._locked():
            known = self.record()
            if known is None:
                return False
            self._check_no_link()
            if not discard and untrusted_files.occupied(self.place):
                self._collect(known)
                condition = self.inspect()
                if not condition.clean:
                    raise NotClean(
                        f"The workspace {self.place} of {self.agent} has {condition.sentence()}. It was not removed. "
                        f"Have the agent commit on its branch {self.branch}, or give that up with --discard."
                    )
            with crash_points.around(REMOVED):
                if self.place.exists():
                    # At once, so that no half of a clone is ever in its place.
                    self.place.rename(self._part())
            self._unprotect(known)
            untrusted_files.delete(self._origin)
            left = self.clear_parts()
            # Last: after a crash, what is known is removed again.
            (self.folder / clone_record.NAME).unlink(missing_ok=True)
            if left:
                raise FleetError(
                    f"What is left of {self.agent}'s workspace, {left[0]}, could not be deleted. Delete it by hand.",
                    code="workspace.not_deleted",
                )
            return True

    def _unprotect(self, known: CloneRecord) -> None:
        """Take Muster's own name away, where it keeps nothing that the person's branches do not."""
        with contextlib.suppress(FleetError):
            repository = self._source(known)
            kept = repository_refs.commit(repository, self._kept)
            if kept is not None and repository_refs.merged(repository, kept, (known.base, self._branch)):
                repository_refs.forget(repository, self._kept, kept)

    # --- both ---------------------------------------------------------------------------------------------------

    def _check_no_link(self) -> None:
        if self.place.is_symlink():
            raise FleetError(f"The workspace {self.place} is a link. Find out who made it.", code="workspace.forbidden")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time; the kernel gives the lock back when its holder dies."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def uncommitted(repository: Repository) -> int | None:
    """Return how many files of the person's own working tree have changes that no clone has; None: not known.

    An agent may have worked right there once, so this looks from a sandbox, too.
    """
    if repository.bare:
        return None
    shown = (repository.folder, repository.common, repository.git_dir, *repository.stores())
    command = sandboxed_git.pinned(
        *(f"--git-dir={repository.git_dir}", f"--work-tree={repository.folder}"),
        *("status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "--ignore-submodules=all"),
    )
    try:
        inside = sandboxed_git.inside(command, readonly=shown, cwd=repository.folder)
        said = sandboxed_git.answer(inside, f"Looking at {repository.folder}", timeout_s=_GLANCE_S)
    except FleetError:
        return None
    return sum(1 for entry in said.split("\0") if entry)
