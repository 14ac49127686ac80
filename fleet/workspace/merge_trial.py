"""Merging the branch of an agent on trial: what would come of it, and whether it may be.

It is computed from objects alone (git-merge-tree(1), git 2.38) in a git folder of Muster's own, in the sandbox, so that
nothing of the person's is touched and nothing of the agent's says what runs. Then the branch that gets the commits says
which paths are protected and which tests have to succeed (`fleet.workspace.merge_gate`). What comes of a trial is a
commit: exactly this one becomes the person's branch later, or nothing does (`fleet.workspace.branch_merge`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fleet.errors import FleetError, RuntimeMissing
from fleet.workspace import (
    merge_gate,
    merge_tests,
    own_git_folder,
    repository_discovery,
    repository_refs,
    sandboxed_git,
    untrusted_files,
)
from fleet.workspace.merge_gate import MergeGate
from fleet.workspace.merge_tests import GateRun, MergeSandbox
from fleet.workspace.repository_discovery import Repository
from fleet.workspace.sandboxed_git import Done

#: Seconds that git may take for one step.
STEP_S: Final = 120.0
_HEADS: Final = "refs/heads/"
_RESULT: Final = "refs/heads/result"
#: Where the commit of a trial is kept in the person's repository, until their branch is there.
_TRIED: Final = "refs/muster-merges/"
#: Conflicts, and protected paths, that a message lists.
_LISTED: Final = 5
#: Bytes of lists that are read; of files that are laid out, and how many.
_LIST_BYTES: Final = 16 * 1024 * 1024
_FILES_BYTES: Final = 8 * 2**30
_MOST_FILES: Final = 500_000
#: Seconds for which tests that succeeded count for the same files.
_TESTED_FOR_S: Final = 3600.0
_TESTED: Final = "merge-tested.json"
_SUBJECTS: Final = 50
#: What a person has begun in a working tree; moving its branch would break that.
_UNDER_WAY: Final = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "BISECT_LOG", "rebase-merge", "rebase-apply")


class NotMerged(FleetError):
    """A branch cannot be merged as things are; the message says why and what to do."""

    code = "branch.not_merged"


class MergeConflict(NotMerged):
    """The branches have conflicts; the message lists the files."""

    code = "merge.conflicts"


class ProtectedPath(NotMerged):
    """A merge would change what is protected; the message lists the files."""

    code = "merge.protected"


class FailedTests(NotMerged):
    """The tests did not succeed in the merged files."""

    code = "merge.tests_failed"

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said
        """The end of what they said, which may be anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeRequest:
    """Which branch is merged, and how."""

    source: Path
    """The person's repository."""
    agent: str
    """Its branch is ``muster/AGENT``."""
    folder: Path
    """The agent's private folder, which it cannot see."""
    title: str = ""
    """What was asked, for the message of the commit."""
    began_on: str | None = None
    """The branch from which the agent's clone was made, which gets its commits; None: the one that is checked out."""
    into: str | None = None
    """Another branch that a person named, which need not be checked out."""
    squash: bool = False
    """One commit gets all changes, without the agent's history."""
    commit: str | None = None
    """How the hash of the agent's last commit begins; None: any."""
    sandbox: MergeSandbox = field(default_factory=MergeSandbox)

    @property
    def branch(self) -> str:
        return f"muster/{self.agent}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TriedMerge:
    """What a trial came to: everything that was asked of the merge is fulfilled."""

    into: str
    """The branch that gets the commits."""
    base: str
    """The commit at which it was, and has to be still."""
    tip: str
    """The agent's last commit."""
    target: str
    """The commit at which the branch will be."""
    commits: int
    files: int
    """How many files will differ."""
    test: str | None = None
    """The tests that succeeded; None: there are none."""
    seconds: float = 0.0
    """How long they took."""


def attempt(
    request: MergeRequest,
    *,
    say: Callable[[str], None] = lambda _: None,
    given_up: Callable[[], bool] = lambda: False,
) -> TriedMerge | None:
    """Merge on trial, and run the tests on what comes of it. No branch of the person's is moved.

    Args:
        request: which branch, and how.
        say: is told what is being done.
        given_up: whether nobody waits for it any more.

    Returns:
        What came of it; None: there is nothing new to be merged.

    Raises:
        NotMerged: it cannot be merged as things are.
        FleetError: git failed.
    """
    try:
        with _folder(request) as folder:
            return _Trial(request, folder, say, given_up).run()
    except RuntimeMissing as error:
        raise NotMerged(f"{error} Install it, or merge the branch yourself and keep it here.") from None


def tried(agent: str) -> str:
    """Return the name under which the commit of a trial is kept."""
    return f"{_TRIED}{agent}"


@contextlib.contextmanager
def _folder(request: MergeRequest) -> Iterator[Path]:
    """A folder for one trial; what a crash left in it is deleted first."""
    request.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(request.folder / "merge.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    place = request.folder.resolve() / "merge"
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotMerged(f"{request.branch} is being merged already. Ask again when that has ended.") from None
        untrusted_files.delete(place)
        place.mkdir(mode=0o700)
        yield place
    finally:
        untrusted_files.delete(place)
        os.close(handle)


@dataclass(slots=True)
class _Trial:
    request: MergeRequest
    folder: Path
    say: Callable[[str], None]
    given_up: Callable[[], bool]
    repository: Repository = field(init=False)

    @property
    def _git_dir(self) -> Path:
        return self.folder / "git"

    @property
    def _files(self) -> Path:
        return self.folder / "files"

    def run(self) -> TriedMerge | None:
        request = self.request
        self.repository = repository = opened(request.source)
        tip = self._tip()
        if tip is None:
            return None
        into, base = self._target(tip)
        if into is None or repository_refs.merged(repository, tip, (base,)):
            return None
        if (place := repository_refs.worktree(repository, f"{_HEADS}{into}")) is not None:
            check_worktree(repository, into, place)
        own_git_folder.make(self._git_dir, repository, head=_RESULT, digits=len(tip))
        self._files.mkdir()
        self._check_size(tip)
        gate = self._gate(base)
        ahead = repository_refs.merged(repository, base, (tip,))
        tree = self._git("rev-parse", f"{tip}^{{tree}}") if ahead else self._merged_tree(base, tip)
        changed = self._changed(base, tree)
        if not changed:
            return None
        self._check_protected(gate, changed, into)
        test = self._tested(gate, tree)
        target = tip if ahead and not request.squash else self._commit(tree, base, tip)
        commits = repository_refs.count(repository, tip, (base,))
        if target != tip:
            self._hand_over(target)
        return TriedMerge(
            into=into,
            base=base,
            tip=tip,
            target=target,
            commits=commits,
            files=len(changed),
            test=None if test is None else test.command,
            seconds=0.0 if test is None else test.seconds,
        )

    def _tip(self) -> str | None:
        """Return the last commit on the agent's branch; None: there is no such branch."""
        request, branch, repository = self.request, self.request.branch, self.repository
        tip = repository_refs.commit(repository, f"{_HEADS}{branch}")
        if tip is None:
            return None
        own = repository_refs.commit(repository, kept := repository_refs.kept(request.agent))
        if own is not None and repository_refs.merged(repository, tip, (own,)):
            # A person who has the branch checked out does not keep newer commits from being merged.
            tip = own
        elif own is not None and not repository_refs.merged(repository, own, (tip,)):
            raise NotMerged(
                f"{branch} has other commits than the agent's, which are at {kept}. Rename that branch with "
                f"`git branch -m {branch} NAME`, or merge what you want yourself."
            )
        if request.commit is not None and not tip.startswith(request.commit):
            raise NotMerged(
                f"{branch} is at {tip[:12]} now, and not at {request.commit}. Look at what is new, and ask again."
            )
        return tip

    def _target(self, tip: str) -> tuple[str | None, str]:
        """Return the branch that gets the commits, or None if it has them, and its commit."""
        request, repository = self.request, self.repository
        if request.into is not None:
            base = repository_refs.commit(repository, f"{_HEADS}{request.into}")
            if base is None or not _is_branch(request.into) or request.into.startswith("muster/"):
                raise NotMerged(
                    f"{request.source} has no branch {_quoted(request.into)} that takes commits. `git branch` there "
                    "lists its branches; those that begin with muster/ are agents'."
                )
            return request.into, base
        into, base = repository.checked_out(), repository_refs.head(repository)
        if into is None or base is None:
            raise NotMerged(f"no branch is checked out in {request.source}. Check one out.")
        if repository_refs.merged(repository, tip, (base,)):
            return None, base
        began_on = request.began_on
        if began_on is not None and into != began_on:
            raise NotMerged(
                f"{request.agent} began from the branch {_quoted(began_on)}, but {_quoted(into)} is checked out in "
                f"{request.source}. Check out {_quoted(began_on)} there, or name the branch that gets the commits with "
                f"`muster merge {request.agent} --into BRANCH`, or keep {_quoted(request.branch)} and merge it "
                "yourself."
            )
        return into, base

    # --- git, where nothing but objects is the person's or the agent's --------------------------------------------

    def _run(self, *arguments: str, cut_at: int | None = None) -> Done:
        where = (f"--git-dir={self._git_dir}", f"--work-tree={self._files}", "-C", str(self._files))
        stores = tuple(store for store in self.repository.stores() if store.is_dir())
        inside = sandboxed_git.inside(
            sandboxed_git.pinned(*where, *arguments), readonly=stores, writable=(self.folder,), cwd=self._files
        )
        return sandboxed_git.run(inside, timeout_s=STEP_S, cut_at=cut_at, given_up=self.given_up)

    def _git(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.status != 0:
            raise self._failed(done)
        return done.said.strip()

    def _failed(self, done: Done) -> NotMerged:
        why = sandboxed_git.reason(done.complaint)
        return NotMerged(f"git cannot merge {self.request.branch}: {why} Merge it yourself.")

    def _check_size(self, commit: str) -> None:
        """Refuse files that would fill the disk. A few small objects can stand for any number of files."""
        listed = self._run("ls-tree", "-r", "--format=%(objectsize)", commit, cut_at=_LIST_BYTES)
        if listed.status != 0:
            raise self._failed(listed)
        sizes = [int(size) for size in listed.said.splitlines() if size.isdigit()]
        if listed.cut or len(sizes) > _MOST_FILES or sum(sizes) > _FILES_BYTES:
            raise NotMerged(
                f"{self.request.branch} has more than {_MOST_FILES:,} files or {_FILES_BYTES // 2**30} GiB, which is "
                "too much for a trial. Merge it yourself."
            )

    def _gate(self, base: str) -> MergeGate:
        """Return what the branch that gets the commits asks of a merge."""
        listed = self._git("ls-tree", "-l", base, "--", merge_gate.PATH)
        if not listed:
            return MergeGate()
        mode, _, blob, size = listed.partition("\t")[0].split()
        if mode not in ("100644", "100755") or int(size) > merge_gate.LONGEST:
            raise merge_gate.InvalidGate(
                f"{merge_gate.PATH} has to be a file of at most {merge_gate.LONGEST // 1024} KiB, and no link. Correct "
                "it, and commit it."
            )
        return merge_gate.read(self._run("cat-file", "blob", blob).output)

    def _merged_tree(self, base: str, tip: str) -> str:
        done = self._run("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", base, tip)
        words = done.said.split("\0")
        if done.status == 1:
            listed = _listed([name for name in words[1:] if name])
            raise MergeConflict(
                f"{self.request.branch} has conflicts in {listed}. Have the agent merge `origin` into its branch."
            )
        if done.status != 0 or not words[0]:
            raise self._failed(done)
        return words[0]

    def _changed(self, base: str, tree: str) -> list[str]:
        """Return the paths that the merge changes on the branch. A renamed file is two of them."""
        words = ("diff-tree", "-r", "-z", "--no-renames", "--name-only", "--no-ext-diff", base, tree, "--")
        done = self._run(*words, cut_at=_LIST_BYTES)
        if done.status != 0:
            raise self._failed(done)
        if done.cut:
            raise NotMerged(f"{self.request.branch} changes too many files to check them. Merge it yourself.")
        return done.output.decode("utf-8", "surrogateescape").split("\0")[:-1]

    def _check_protected(self, gate: MergeGate, changed: Sequence[str], into: str) -> None:
        found = merge_gate.touched(gate, changed)
        if found:
            raise ProtectedPath(
                f"{self.request.branch} changes {_listed(found)}, which {merge_gate.PATH} on {_quoted(into)} protects "
                "from agents. Have the agent take that back, or merge the branch yourself."
            )

    def _tested(self, gate: MergeGate, tree: str) -> GateRun | None:
        """Lay out the merged files, and run the tests on them, unless the same succeeded a short while ago."""
        if gate.test is None:
            return None
        known = _load(self.request.folder / _TESTED)
        if known is not None and known.tree == tree and known.command == gate.test:
            return GateRun(command=gate.test, seconds=known.seconds)
        self.say(f"running the tests: {gate.test}")
        self._git("read-tree", tree)
        self._git("checkout-index", "--all", "--quiet")
        done = merge_tests.run(gate, self._files, self.request.sandbox, self.given_up)
        assert done is not None
        if done.problem is not None:
            raise FailedTests(
                f"the tests did not succeed in the merged files of {self.request.branch}: {done.problem}. Have the "
                "agent correct them.",
                done.said,
            )
        tested = _Tested(tree=tree, command=gate.test, seconds=done.seconds, at=time.time())
        untrusted_files.put(self.request.folder / _TESTED, tested.to_json())
        return done

    def _commit(self, tree: str, base: str, tip: str) -> str:
        request = self.request
        subject = f"Merge {request.branch}" if not request.squash else f"Squash {request.branch}"
        message = f"{subject}: {request.title}" if request.title else f"{subject}."
        parents: tuple[str, ...] = ("-p", base, "-p", tip)
        if request.squash:
            parents = ("-p", base)
            listed = self._git("log", f"--max-count={_SUBJECTS}", "--format=* %s", "--reverse", tip, f"^{base}", "--")
            message = f"{message}\n\n{listed}"
        who = ("-c", "user.name=Muster", "-c", "user.email=muster@muster.invalid")
        return self._git(*who, "commit-tree", tree, *parents, "-m", message)

    def _hand_over(self, target: str) -> None:
        """Bring the commit of the trial into the person's repository, checked as an agent's commits are."""
        self._git("update-ref", _RESULT, target)
        stores = tuple(store for store in self.repository.stores() if store.is_dir())
        serve = sandboxed_git.inside(
            sandboxed_git.pinned("upload-pack", "--timeout=60"), readonly=(*stores, self.folder), cwd=self.folder
        )
        fetch = sandboxed_git.pinned(
            *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-gc"),
            *("--no-prune", "--refmap=", f"--upload-pack={shlex.join(serve)}"),
            f"file://{self._git_dir}",
            f"+{_RESULT}:{tried(self.request.agent)}",
            git_dir=self.repository.common,
        )
        sandboxed_git.answer(fetch, f"Merging {self.request.branch}", timeout_s=STEP_S)


def opened(source: Path) -> Repository:
    """Return the person's repository.

    Raises:
        NotMerged: it is not there any more.
        FleetError: Muster cannot use it.
    """
    repository = repository_discovery.find(source)
    if repository is None:
        raise NotMerged(f"the repository {source} is not there any more. Put it back.")
    repository_discovery.check(repository, ())
    return repository


def check_worktree(repository: Repository, into: str, place: Path) -> None:
    """Check that a branch that is checked out can move with its files.

    Raises:
        NotMerged: it cannot.
        RuntimeMissing: git would have to run outside of a sandbox.
    """
    if place.resolve() != repository.folder:
        raise NotMerged(
            f"{_quoted(into)} is checked out in {place}, which is another working tree than {repository.folder}. Check "
            "out something else there, or merge it there yourself."
        )
    if any((repository.git_dir / name).exists() for name in _UNDER_WAY):
        raise NotMerged(
            f"a merge, rebase or the like is under way in {repository.folder}. End it there first: `git status` says "
            "how."
        )
    where = (f"--git-dir={repository.git_dir}", f"--work-tree={repository.folder}", "-C", str(repository.folder))
    shown = (repository.folder, repository.common, repository.git_dir, *repository.stores())
    status = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=dirty")
    inside = sandboxed_git.inside(sandboxed_git.pinned(*where, *status), readonly=shown, cwd=repository.folder)
    done = sandboxed_git.run(inside, timeout_s=STEP_S)
    if done.status != 0:
        raise NotMerged(f"git cannot look at {repository.folder}: {sandboxed_git.reason(done.complaint)} Look there.")
    changed = [entry[3:] for entry in done.said.split("\0") if entry]
    if changed:
        have = "has changes that are" if len(changed) == 1 else "have changes that are"
        raise NotMerged(
            f"{repository.folder} cannot take it: {_listed(changed)} {have} not committed. Commit or stash what you "
            "changed there."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tested:
    """Tests that succeeded, out of the agent's reach."""

    tree: str
    command: str
    seconds: float
    at: float

    def to_json(self) -> bytes:
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}).encode()


def _load(path: Path) -> _Tested | None:
    """Return the tests that succeeded last, if that is not long ago."""
    try:
        known = _Tested(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return known if 0 <= time.time() - known.at < _TESTED_FOR_S else None


def _is_branch(name: str) -> bool:
    """Return whether a name can be a branch's: not a commit's or a pattern."""
    check = sandboxed_git.pinned("check-ref-format", f"{_HEADS}{name}")
    return sandboxed_git.run(check, timeout_s=repository_refs.LOOK_S).status == 0


def _quoted(branch: str) -> str:
    return f"`{branch.replace('`', '')}`"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(f"`{repr(name)[1:-1].replace('`', '')}`" for name in names[:_LISTED]) + more
