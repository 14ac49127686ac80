"""What an agent changed in its clone: its branch since its base, and its working tree.

Git does not open the clone for this. The agent's branch is fetched into the person's repository first, which checks
every object, and git reads the objects there alone. It looks at the agent's files with a git folder that Muster makes
and throws away. So no settings, hooks, index or attributes of the agent's say what is run, or what is shown. It does so
in the sandbox, for the files can be anything.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.errors import FleetError, RuntimeMissing
from fleet.workspace import agent_changes, own_git_folder, repository_refs, sandboxed_git
from fleet.workspace.agent_changes import AgentCommits, AgentDiff, BranchState, ChangedFile
from fleet.workspace.clone import Clone, FetchedBranch
from fleet.workspace.sandboxed_git import Done, GitFailed

#: Seconds that looking may take, after the fetch.
LOOK_S: Final = 60.0
#: Bytes of the index that git writes, of the list of changed files, and of that of untracked ones.
_INDEX_BYTES: Final = 2**28
_LIST_BYTES: Final = 8 * 1024 * 1024
UNTRACKED_BYTES: Final = 1024 * 1024
#: Bytes of an untracked file that is compared, and of all of them together.
_LONG_FILE: Final = 16 * 1024 * 1024
_UNTRACKED_TOGETHER: Final = 256 * 1024 * 1024
#: How often a command is run that fails, as it may where the agent changes files meanwhile.
_ATTEMPTS: Final = 3

#: What git calls a tree and a file without content, by the digits of its hashes.
_EMPTY_TREE: Final = {
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
_EMPTY_FILE: Final = {
    40: "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    64: "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
}
#: No program, and no question to a repository inside.
_PLAIN: Final = ("--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "--no-color", "-M")
_HEADS: Final = "refs/heads/"


class UnknownCommit(FleetError):
    """No commit of an agent's repository has this hash."""

    code = "commit.unknown"


def diff(clone: Clone, *, since: str | None, longest: int) -> AgentDiff:
    """Return what an agent's working tree has, committed or not, that a commit has not.

    Args:
        since: the hash of the commit, or its beginning; None: the base of its branch.
        longest: bytes of the diff that are wanted.

    Raises:
        UnknownCommit: there is no such commit.
        FleetError: the clone cannot be looked at.
    """
    with _looking(clone) as look:
        state = look.state(since)
        tree = state.base or look.empty_tree
        listed = look.run("diff", *_PLAIN, "--raw", "--numstat", "-z", "--no-abbrev", tree, "--", cut_at=_LIST_BYTES)
        text = look.run("diff", *_PLAIN, "-p", tree, "--", cut_at=longest)
        files = agent_changes.files(listed.said, look.apart)
        return AgentDiff(state=state, files=files, diff=text.said, truncated=text.cut or listed.cut)


def commits(clone: Clone, *, most: int) -> AgentCommits:
    """Return the commits of an agent's branch since its base.

    Args:
        most: how many are wanted, the newest first.

    Raises:
        FleetError: the clone cannot be looked at.
    """
    with _looking(clone) as look:
        state = look.state(None)
        if state.head is None:
            return AgentCommits(state=state, commits=(), total=0)
        those = (state.head, *((f"^{state.base}",) if state.base is not None else ()), "--")
        total = int(look.run("rev-list", "--count", *those).said)
        shape = (f"--max-count={most}", f"--format={agent_changes.LOG_FORMAT}", "--shortstat", "--diff-merges=off")
        said = look.run("log", *_PLAIN, "--no-show-signature", *shape, *those, cut_at=_LIST_BYTES).said
        return AgentCommits(state=state, commits=agent_changes.commits(said), total=total)


@contextlib.contextmanager
def _looking(clone: Clone) -> Iterator[_Look]:
    try:
        fetched = clone.fetch()
        with tempfile.TemporaryDirectory(prefix="muster-look-") as folder:
            deadline = time.monotonic() + LOOK_S
            look = _Look(clone=clone, fetched=fetched, folder=Path(folder).resolve(), deadline=deadline)
            look.prepare()
            yield look
    except RuntimeMissing as error:
        raise FleetError(
            f"What {clone.agent} changed is not shown: git would read its files outside of a sandbox. {error} Install "
            "it.",
            code="workspace.unchecked",
        ) from None


@dataclass(kw_only=True, slots=True)
class _Look:
    """One look at a clone, with a git folder of Muster's own."""

    clone: Clone
    fetched: FetchedBranch
    folder: Path
    deadline: float
    apart: tuple[ChangedFile, ...] = ()
    """Untracked repositories, and untracked files that are too long to be compared."""
    unlisted: bool = False

    @property
    def _digits(self) -> int:
        return len(self.fetched.tip or self.fetched.known.base or _EMPTY_TREE[40])

    @property
    def empty_tree(self) -> str:
        return _EMPTY_TREE[self._digits]

    def prepare(self) -> None:
        """Make the git folder, and an index of the files on the branch and of those that are untracked.

        Raises:
            FleetError: git failed.
        """
        head = f"{_HEADS}{self.clone.branch}"
        own_git_folder.make(self.folder, self.fetched.repository, head=head, digits=self._digits)
        tip = self.fetched.tip or self.fetched.known.base
        self.run("read-tree", *((tip,) if tip is not None else ("--empty",)))
        excluded = f"core.excludesFile={self.clone.place / '.git' / 'info' / 'exclude'}"
        # Compares every file with the branch, once for all that follows.
        self.run("update-index", "-q", "--refresh", fine=(0, 1))
        listed = self.run("-c", excluded, "ls-files", "-z", "--others", "--exclude-standard", cut_at=UNTRACKED_BYTES)
        self.unlisted = listed.cut
        compared, self.apart = self._untracked(listed.output.split(b"\0")[:-1])
        entry = f"100644 {_EMPTY_FILE[self._digits]} 0\t".encode()
        added = self.folder / "untracked"
        added.write_bytes(b"".join(entry + path + b"\0" for path in compared))
        self.run("update-index", "-z", "--index-info", stdin=added)

    def _untracked(self, paths: Sequence[bytes]) -> tuple[list[bytes], tuple[ChangedFile, ...]]:
        """Return which untracked files are compared, and the others."""
        compared: list[bytes] = []
        apart: list[ChangedFile] = []
        left = _UNTRACKED_TOGETHER
        for path in paths:
            shown = path.decode("utf-8", "replace")
            if path.endswith(b"/"):
                apart.append(ChangedFile(path=shown, status="repository"))
                continue
            try:
                size = os.lstat(os.fsencode(self.clone.place) + b"/" + path).st_size
            except OSError:  # gone since
                continue
            if size > min(_LONG_FILE, left):
                apart.append(ChangedFile(path=shown, status="added", binary=True))
                continue
            left -= size
            compared.append(path)
        return compared, tuple(apart)

    def state(self, since: str | None) -> BranchState:
        """Return how the branch and the working tree stand, since a commit or since the base.

        Raises:
            UnknownCommit: there is no such commit.
            FleetError: git failed.
        """
        known, tip = self.fetched.known, self.fetched.tip
        left = self._left_at() if since is None else None
        base = self._commit(since) if since is not None else left or known.base
        compared = tip or known.base or self.empty_tree
        changed = self.run("diff", *_PLAIN, "--no-renames", "--name-only", "-z", compared, "--", cut_at=_LIST_BYTES)
        return BranchState(
            branch=self.clone.branch,
            base=base,
            head=tip,
            left=known.began_on if left is not None else None,
            uncommitted=changed.output.count(b"\0") + len(self.apart),
            elsewhere=not self._on_branch(),
            unlisted=self.unlisted,
        )

    def _left_at(self) -> str | None:
        """Return where the agent's branch left the person's, after it took over commits from there; None: it took over
        none, or all of it is on the person's."""
        known, tip = self.fetched.known, self.fetched.tip
        if tip is None or known.base is None or known.began_on is None:
            return None
        theirs = repository_refs.commit(self.fetched.repository, f"{_HEADS}{known.began_on}")
        if theirs is None:
            return None
        common = self.run("merge-base", tip, theirs, fine=(0, 1)).said.strip()
        if common in ("", tip, known.base):
            return None
        newer = self.run("merge-base", "--is-ancestor", known.base, common, fine=(0, 1)).status == 0
        return common if newer else None

    def _commit(self, given: str) -> str:
        """Return the commit whose hash begins so. There are no names here, which the agent could have given."""
        words = ("--verify", "--quiet", "--end-of-options", f"{given}^{{commit}}")
        asked = self.run("rev-parse", *words, fine=(0, 1, 128))
        found = asked.said.strip()
        if asked.status != 0 or not found.startswith(given):
            raise UnknownCommit(
                f"{self.clone.agent}'s repository has no commit {given}, or more than one that begins so. "
                f"`muster commits {self.clone.agent}` lists the commits of its branch."
            )
        return found

    def _on_branch(self) -> bool:
        """Return whether the agent has its branch checked out. This alone asks the clone itself."""
        ask = sandboxed_git.pinned("symbolic-ref", "--quiet", "HEAD", git_dir=self.clone.place / ".git")
        inside = sandboxed_git.inside(ask, readonly=(self.clone.place,), cwd=self.clone.place)
        return sandboxed_git.run(inside, timeout_s=self._left_s()).said.strip() == f"{_HEADS}{self.clone.branch}"

    def run(
        self, *arguments: str, cut_at: int | None = None, stdin: Path | None = None, fine: tuple[int, ...] = (0,)
    ) -> Done:
        """Run git over the agent's files, and again if it fails.

        Args:
            arguments: its command, and what goes before.
            cut_at: bytes of its answer that are wanted.
            stdin: a file that it reads.
            fine: the statuses of success.

        Raises:
            GitFailed: it failed every time, or the time is over.
        """
        where = (f"--git-dir={self.folder}", f"--work-tree={self.clone.place}")
        command = sandboxed_git.pinned(*where, *arguments)
        if stdin is not None:
            command = ("/bin/sh", "-c", 'exec "$@" < "$0"', str(stdin), *command)
        stores = (store for store in self.fetched.repository.stores() if store.is_dir())
        inside = sandboxed_git.inside(
            command, readonly=(*stores, self.clone.place), writable=(self.folder,), cwd=self.clone.place
        )
        for _ in range(_ATTEMPTS):
            try:
                done = sandboxed_git.run(inside, timeout_s=self._left_s(), file_bytes=_INDEX_BYTES, cut_at=cut_at)
            except GitFailed as error:
                raise self._unreadable(str(error)) from None
            if done.status in fine:
                return done
        raise self._unreadable(sandboxed_git.reason(done.complaint))

    def _unreadable(self, why: str) -> GitFailed:
        return GitFailed(
            f"Git cannot tell what {self.clone.agent} changed in {self.clone.place}: {why} Ask again when its turn has "
            "ended."
        )

    def _left_s(self) -> float:
        return max(0.1, self.deadline - time.monotonic())
