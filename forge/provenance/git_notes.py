"""Records in the notes of a repository, under `refs/notes/muster`.

Notes are written in a git folder of Muster's own, which borrows the repository's objects: nothing that is set in the
repository is obeyed. Another run may push its notes first; then they are fetched, and ours are added to them.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from core.backoff import pause
from fleet.workspace import own_git_folder, repository_refs, sandboxed_git
from fleet.workspace.repository_discovery import Repository
from fleet.workspace.sandboxed_git import Done, GitFailed
from forge.model.errors import ForgeError
from forge.provenance.notes import merged

REF: Final = "refs/notes/muster"
#: How often notes are pushed in all when others push first, and the pauses between, seconds.
TRIES: Final = 10
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
#: Commits of one range.
MOST_COMMITS: Final = 1_000
#: Bytes of one note.
_LONGEST_NOTE: Final = 2 * 1024 * 1024

_IDENTITY: Final = {
    "GIT_AUTHOR_NAME": "Muster",
    "GIT_AUTHOR_EMAIL": "muster@localhost",
    "GIT_COMMITTER_NAME": "Muster",
    "GIT_COMMITTER_EMAIL": "muster@localhost",
}

#: Runs git in a git folder. The one that publishes to a forge adds what it needs to reach it.
GitRun: TypeAlias = "Callable[[Path, Sequence[str]], Done]"


class NotesBusy(ForgeError):
    """Other runs pushed their records first, again and again. The record is pushed with the next one."""

    code = "forge.notes_busy"


class UnknownCommits(ForgeError):
    """The repository has no such commits."""

    code = "forge.unknown_commits"


def run_local(git_dir: Path, words: Sequence[str]) -> Done:
    """Run git with access to repositories of this machine alone."""
    command = sandboxed_git.pinned(*words, git_dir=git_dir)
    environment = {**sandboxed_git.ENVIRONMENT, **_IDENTITY}
    return sandboxed_git.run(command, timeout_s=repository_refs.LOOK_S, environment=environment, cut_at=_LONGEST_NOTE)


def publish(
    repository: Repository,
    remote: str,
    commit: str,
    line: str,
    *,
    run: GitRun = run_local,
    tries: int = TRIES,
    sleep: Callable[[float], None] = time.sleep,
    rng: Callable[[], float] = random.random,
) -> None:
    """Add a line to the note of a commit at a remote. Doing it again changes nothing.

    Args:
        repository: has the commit.
        remote: the address of the remote.
        commit: the commit's hash.
        line: a signed record (`forge.provenance.notes`).
        run: runs git.
        tries: how often others may push first.
        sleep: waits some seconds between tries.
        rng: a number from 0 up to 1, for jitter.

    Raises:
        NotesBusy: others pushed first each time.
        GitFailed: git failed, or the note has grown too long.
    """
    for attempt in range(1, tries + 1):
        with tempfile.TemporaryDirectory(prefix="muster-notes-") as folder:
            if _published(Path(folder), repository, remote, commit, line, run):
                return
        if attempt < tries:
            sleep(pause(attempt, first=FIRST_PAUSE, longest=LONGEST_PAUSE, rng=rng))
    raise NotesBusy


def read(repository: Repository, commits: Sequence[str]) -> dict[str, str]:
    """Return the notes of those of these commits that have one. Their text is anybody's.

    Raises:
        GitFailed: git failed.
    """
    found = {}
    for commit in commits:
        # Its status says whether there is one.
        listed = run_local(repository.common, ("notes", f"--ref={REF}", "list", commit))
        if listed.status == 0:
            found[commit] = _told(
                run_local, repository.common, ("cat-file", "blob", listed.said.strip()), "Reading a note"
            )
    return found


def commits_of(repository: Repository, expression: str) -> tuple[str, ...]:
    """Return the commits that ``COMMIT`` or ``FROM..TO`` names, newest first.

    Raises:
        UnknownCommits: it names none, or more than `MOST_COMMITS`.
        GitFailed: git failed.
    """
    begin, dots, end = expression.replace("\0", " ").partition("..")
    ends = [repository_refs.commit(repository, name or "HEAD") for name in ((begin, end) if dots else (begin,))]
    if None in ends:
        raise UnknownCommits(
            f"{repository.folder} has no commits {expression[:100]!r}. Write a commit, a branch, FROM..TO, or a pull "
            "request as owner/repo#17."
        )
    if not dots:
        return tuple(each for each in ends if each)
    words = ("rev-list", f"--max-count={MOST_COMMITS + 1}", f"{ends[0]}..{ends[1]}", "--")
    found = _told(run_local, repository.common, words, "Listing commits").split()
    if not found:
        raise UnknownCommits(f"There are no commits in {expression[:100]!r}. Write OLDER..NEWER.")
    if len(found) > MOST_COMMITS:
        raise UnknownCommits(f"{expression[:100]!r} has more than {MOST_COMMITS} commits. Name a shorter range.")
    return tuple(found)


def _published(folder: Path, repository: Repository, remote: str, commit: str, line: str, run: GitRun) -> bool:
    """Fetch, add and push once; return False if another run pushed first."""
    git_dir = folder / "git"
    own_git_folder.make(git_dir, repository, head="refs/heads/none", digits=len(commit))
    if _told(run, git_dir, ("ls-remote", "--", remote, REF), "Looking for notes"):
        words = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", remote, f"+{REF}:{REF}")
        _told(run, git_dir, words, "Fetching notes")
    shown = run(git_dir, ("notes", f"--ref={REF}", "show", commit))
    if shown.cut:
        raise GitFailed(f"The note of {commit} is longer than {_LONGEST_NOTE} bytes, so nothing was added to it.")
    before = shown.said if shown.status == 0 else ""
    after = merged(before, line)
    if after == merged(before):
        return True
    note = folder / "note"
    note.write_text(after, encoding="utf-8")
    _told(run, git_dir, ("notes", f"--ref={REF}", "add", "--force", "-F", str(note), commit), "Adding a note")
    pushed = run(git_dir, ("push", "--quiet", "--no-signed", "--porcelain", "--", remote, f"{REF}:{REF}"))
    if pushed.status == 0:
        return True
    if any(line.startswith("!") for line in pushed.said.splitlines()):
        return False
    raise GitFailed(f"Pushing notes failed: {sandboxed_git.reason(pushed.complaint)}", pushed.complaint)


def _told(run: GitRun, git_dir: Path, words: Sequence[str], doing: str) -> str:
    done = run(git_dir, words)
    if done.status == 0:
        return done.said.strip()
    raise GitFailed(f"{doing} failed: {sandboxed_git.reason(done.complaint)}", done.complaint)
