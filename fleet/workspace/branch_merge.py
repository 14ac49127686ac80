"""Moving the person's branch to what came of a trial (`fleet.workspace.merge_trial`), and discarding an agent's branch.

The branch moves in one step from the commit that was tested against, or not at all. If it is checked out, its files
follow. After a crash between the two, a repetition brings the files along, and changes nothing else.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from core import crash_points
from fleet.errors import RuntimeMissing
from fleet.workspace import merge_trial, repository_discovery, repository_refs, sandboxed_git, untrusted_files
from fleet.workspace.merge_trial import MergeRequest, NotMerged, TriedMerge
from fleet.workspace.repository_discovery import Repository
from fleet.workspace.sandboxed_git import Done, GitFailed

MOVED = crash_points.declare("workspace.merge")

_HEADS: Final = "refs/heads/"
#: In the agent's private folder: the merge that is being made.
_RECORD: Final = "merge-moving.json"
#: Where the last commit of a discarded branch is kept, and how many days at least.
_DISCARDED: Final = "refs/muster-discarded/"
KEPT_DAYS: Final = 30
_DAY_S: Final = 86_400.0
_KEPT_NAME: Final = re.compile(r"refs/muster-discarded/[a-z0-9-]+/(\d{1,12})-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """A branch that was merged."""

    into: str
    """The name of the branch that it was merged into."""
    commits: int
    commit: str
    """At which the branch is now."""
    test: str | None = None
    """The tests that succeeded; None: there are none."""

    def words(self) -> str:
        """Return how many commits came in."""
        return "1 commit" if self.commits == 1 else f"{self.commits} commits"


@dataclass(frozen=True, kw_only=True, slots=True)
class SetAside:
    """The last commit of an agent whose work is to be discarded."""

    commit: str | None = None
    """None: it has none that Muster fetched."""
    name: str | None = None
    """The name under which it is kept for `KEPT_DAYS`; None: it is on another branch."""


def merge(
    request: MergeRequest,
    *,
    say: Callable[[str], None] = lambda _: None,
    given_up: Callable[[], bool] = lambda: False,
) -> Merged | None:
    """Merge the branch of an agent: on trial first, then in truth. What a crash interrupted is brought to its end.

    Returns:
        What was merged; None if the branch has nothing new.

    Raises:
        NotMerged: it cannot be merged as things are.
        FleetError: git failed.
    """
    done = _begun(request)
    if done is None:
        done = merge_trial.attempt(request, say=say, given_up=given_up)
    return None if done is None else move(request, done)


def _begun(request: MergeRequest) -> TriedMerge | None:
    """Return the merge whose move a crash interrupted, if its branch had moved already."""
    record = request.folder / _RECORD
    try:
        known = TriedMerge(**json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    now = repository_refs.commit(merge_trial.opened(request.source), f"{_HEADS}{known.into}")
    if now == known.target:
        return known
    record.unlink(missing_ok=True)
    return None


def move(request: MergeRequest, done: TriedMerge) -> Merged:
    """Move the person's branch to the commit of a trial, and its files with it. Repeated, it changes nothing.

    Raises:
        NotMerged: the branch has moved since, or its files cannot follow; nothing was changed.
        FleetError: git failed.
    """
    repository = merge_trial.opened(request.source)
    record = request.folder / _RECORD
    try:
        place = repository_refs.worktree(repository, f"{_HEADS}{done.into}")
        now = repository_refs.commit(repository, f"{_HEADS}{done.into}")
        if now == done.base:
            if place is not None:
                merge_trial.check_worktree(repository, done.into, place)
                _check_can_follow(repository, done)
            untrusted_files.put(record, json.dumps(asdict(done)).encode())
            _move(repository, done, with_files=place is not None)
        elif now is None or not repository_refs.merged(repository, done.target, (now,)):
            raise NotMerged(
                f"{done.into} has moved since its merge was tested, so nothing was changed. Ask again, and Muster "
                "tests what it is now."
            )
        elif place is not None and now == done.target:
            # A crash may have come before its files were brought along. The person's changes stay as they are.
            _follow(repository, done)
    except RuntimeMissing as error:
        raise NotMerged(f"{error} Install it, or merge the branch yourself and keep it here.") from None
    record.unlink(missing_ok=True)
    name = merge_trial.tried(request.agent)
    if (kept := repository_refs.commit(repository, name)) is not None:
        repository_refs.forget(repository, name, kept)
    return Merged(into=done.into, commits=done.commits, commit=done.target, test=done.test)


def _move(repository: Repository, done: TriedMerge, *, with_files: bool) -> None:
    """Move the branch, if it is where it was when the merge was tested, and its files."""
    name = f"{_HEADS}{done.into}"
    with crash_points.around(MOVED):
        try:
            repository_refs.point(repository, name, done.target, done.base)
        except GitFailed:
            raise NotMerged(
                f"{done.into} moved just now, so nothing was changed. Ask again, and Muster tests what it is now."
            ) from None
    if with_files and (followed := _follow(repository, done)).status != 0:
        repository_refs.point(repository, name, done.base, done.target)
        raise _cannot_take(repository, sandboxed_git.reason(followed.complaint))


def _check_can_follow(repository: Repository, done: TriedMerge) -> None:
    checked = _follow(repository, done, "-n")
    if checked.status != 0:
        raise _cannot_take(repository, sandboxed_git.reason(checked.complaint))
    # Git takes files that are ignored for worthless, and writes over them.
    removed = set(_paths(repository, done, "D"))
    for path in _paths(repository, done, "A"):
        if (found := _in_the_way(repository.folder, path, removed)) is not None:
            shown = repr(found)[1:-1].replace("`", "")
            raise NotMerged(
                f"{repository.folder} cannot take it: `{shown}` is there already, and would be overwritten. Move it "
                "away."
            )


def _paths(repository: Repository, done: TriedMerge, kind: str) -> list[str]:
    """Return the paths that are added (``A``) or deleted (``D``)."""
    words = ("diff-tree", "-r", "-z", "--no-renames", "--name-only", "--no-ext-diff", f"--diff-filter={kind}")
    command = sandboxed_git.pinned(*words, done.base, done.target, "--", git_dir=repository.common)
    said = sandboxed_git.run(command, timeout_s=merge_trial.STEP_S)
    return said.output.decode("utf-8", "surrogateescape").split("\0")[:-1]


def _in_the_way(folder: Path, path: str, removed: Collection[str]) -> str | None:
    """Return what is where a new file goes, and is in no commit."""
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        place = "/".join(parts[:count])
        if place in removed:
            return None
        try:
            mode = (folder / place).lstat().st_mode
        except OSError:
            return None
        if not stat.S_ISDIR(mode):
            return place
    # A folder in the place of the new file: fine if all that is in it goes.
    inside = (Path(where) / name for where, _, names in os.walk(folder / path) for name in names)
    return next((place for each in inside if (place := str(each.relative_to(folder))) not in removed), None)


def _cannot_take(repository: Repository, why: str) -> NotMerged:
    return NotMerged(f"{repository.folder} cannot take it: {why} Commit or stash what you changed there.")


def _follow(repository: Repository, done: TriedMerge, *options: str) -> Done:
    """Bring the files of a working tree from one commit to another (git-read-tree(1), two tree merge).

    It refuses to overwrite what is neither as in the one nor as in the other, and leaves what is as in the other. The
    repository's settings can name filters, so it runs in a sandbox.
    """
    where = (f"--git-dir={repository.git_dir}", f"--work-tree={repository.folder}", "-C", str(repository.folder))
    writable = tuple(dict.fromkeys((repository.folder, repository.common, repository.git_dir)))

    def run(*arguments: str) -> Done:
        command = sandboxed_git.inside(
            sandboxed_git.pinned(*where, *arguments),
            readonly=repository.stores()[1:],
            writable=writable,
            cwd=repository.folder,
        )
        return sandboxed_git.run(command, timeout_s=merge_trial.STEP_S)

    # Only a file whose content was compared counts as unchanged.
    run("update-index", "-q", "--refresh")
    return run("read-tree", "-m", "-u", *options, done.base, done.target)


def set_aside(source: Path, agent: str, *, now: float | None = None) -> SetAside:
    """Keep the last commit that Muster fetched from an agent's clone, before its work is discarded.

    It gets a name that lasts for `KEPT_DAYS`, unless it is on another branch than the agent's. Names that are older
    are taken away. Repeated, it changes nothing.

    Args:
        source: the person's repository.
        agent: the agent.
        now: seconds since the epoch.

    Raises:
        FleetError: git failed.
    """
    found = repository_discovery.find(source)
    if found is None:
        return SetAside()
    at = time.time() if now is None else now
    _let_go(found, at)
    kept = repository_refs.names(found, f"{_DISCARDED}{agent}/")
    own = repository_refs.commit(found, repository_refs.kept(agent))
    if own is None:
        # Perhaps a crash came after the agent's clone was deleted.
        return SetAside(commit=repository_refs.commit(found, kept[-1]), name=kept[-1]) if kept else SetAside()
    for name in kept:
        if name.endswith(f"-{own[:12]}"):
            return SetAside(commit=own, name=name)
    if repository_refs.on_branch(found, own, without=f"muster/{agent}"):
        return SetAside(commit=own)
    name = f"{_DISCARDED}{agent}/{at:.0f}-{own[:12]}"
    repository_refs.point(found, name, own)
    return SetAside(commit=own, name=name)


def _let_go(found: Repository, at: float) -> None:
    """Take names away that have been kept for long enough."""
    for name in repository_refs.names(found, _DISCARDED):
        match = _KEPT_NAME.fullmatch(name)
        if match is not None and at - int(match[1]) > KEPT_DAYS * _DAY_S:
            commit = repository_refs.commit(found, name)
            if commit is not None:
                repository_refs.forget(found, name, commit)


def discard(source: Path, agent: str, own: str | None) -> bool:
    """Delete the branch of an agent, unless it is checked out or has commits that are not the agent's.

    Args:
        source: the person's repository.
        agent: the agent.
        own: the agent's last commit, as `set_aside` gave it.

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
    if branch is not None:
        if branch.checked_out or own is None or not repository_refs.merged(found, branch.commit, (own,)):
            return False
        repository_refs.forget(found, name, branch.commit)
    if own is not None and repository_refs.commit(found, kept := repository_refs.kept(agent)) == own:
        # It has another name now, and the agent's next clone begins without it.
        repository_refs.forget(found, kept, own)
    return True
