"""What an agent changed in its clone, as frozen values, and their parsing from what git prints. Pure.

All texts here are an agent's, so whoever shows them makes control characters visible.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

FileStatus: TypeAlias = Literal["added", "deleted", "modified", "renamed", "retyped", "repository"]
"""``retyped``: another kind of file, such as a link in place of a text. ``repository``: an untracked repository inside
the clone, which git does not look into."""

_STATUSES: Final[dict[str, FileStatus]] = {"A": "added", "D": "deleted", "R": "renamed", "T": "retyped"}
_COUNTED: Final = re.compile(r"(\d+) (file|insertion|deletion)")
_NO_MODE: Final = "000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedFile:
    """One file that differs."""

    path: str
    """Below the root of the repository."""
    status: FileStatus
    added: int | None = None
    """Lines; None: it is binary, or they were not counted."""
    removed: int | None = None
    binary: bool = False
    was: str | None = None
    """The path before it was renamed."""
    modes: tuple[str, str] | None = None
    """The modes before and after, such as ``100644`` and ``100755``, of a file that had and has one, if they differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCommit:
    """One commit on an agent's branch. Author and time are what the agent wrote there."""

    commit: str
    at: float
    """Seconds since the epoch."""
    author: str
    subject: str
    files: int = 0
    added: int = 0
    """Lines."""
    removed: int = 0
    merge: bool = False
    """It has several parents; its files are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchState:
    """An agent's branch and working tree."""

    branch: str
    base: str | None
    """The commit since which something is shown; None: since the repository was empty."""
    head: str | None
    """The last commit on the branch; None: it has none."""
    left: str | None = None
    """The person's branch that `base` is on, if the agent's branch left it there."""
    uncommitted: int = 0
    """Files of the working tree that are not as `head` has them."""
    elsewhere: bool = False
    """The agent has something else checked out than its branch: another branch, or a commit, as in a rebase."""
    unlisted: bool = False
    """There are more untracked files than were looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCommits:
    """The commits of an agent's branch since its base, the newest first."""

    state: BranchState
    commits: tuple[AgentCommit, ...]
    total: int
    """How many there are; `commits` has the newest of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDiff:
    """What an agent's working tree has, committed or not, that the base has not."""

    state: BranchState
    files: tuple[ChangedFile, ...]
    diff: str
    """In git's format (git-diff(1), generating patch text with -p)."""
    truncated: bool
    """`diff` is only the beginning."""


def files(said: str, apart: tuple[ChangedFile, ...] = ()) -> tuple[ChangedFile, ...]:
    """Return the files of ``git diff --raw --numstat -z``, by path.

    Args:
        said: what git printed. If it was cut off, the entries that are complete are taken.
        apart: more files.
    """
    words = said.split("\0")[:-1]
    entries: list[tuple[str, str, str | None]] = []
    at = 0
    while at < len(words) and words[at].startswith(":"):
        moved = words[at].rpartition(" ")[2][:1] in ("R", "C")
        if at + (3 if moved else 2) > len(words):
            break
        was = words[at + 1] if moved else None
        entries.append((words[at], words[at + (2 if moved else 1)], was))
        at += 3 if moved else 2
    counts: dict[str, tuple[str, str]] = {}
    while at < len(words):
        added, _, rest = words[at].partition("\t")
        removed, _, path = rest.partition("\t")
        if not path:  # renamed: both paths follow
            if at + 2 >= len(words):
                break
            path, at = words[at + 2], at + 2
        counts[path] = (added, removed)
        at += 1
    found = [_file(raw, path, was, counts.get(path)) for raw, path, was in entries]
    return tuple(sorted([*found, *apart], key=lambda each: each.path))


def _file(raw: str, path: str, was: str | None, counted: tuple[str, str] | None) -> ChangedFile:
    """Return the file of an entry such as ``:100644 100755 e69de29 0000000 M``."""
    before, after, *_, letter = raw.removeprefix(":").split(" ")
    binary = counted is not None and counted[0] == "-"
    added, removed = (None, None) if counted is None or binary else (int(counted[0]), int(counted[1]))
    return ChangedFile(
        path=path,
        status=_STATUSES.get(letter[:1], "modified"),
        added=added,
        removed=removed,
        binary=binary,
        was=was,
        modes=(before, after) if before != after and _NO_MODE not in (before, after) else None,
    )


#: The format of `git log --shortstat` that `commits` reads. No message has a NUL.
LOG_FORMAT: Final = "%x00%H%x00%ct%x00%P%x00%an%x00%s%x00"
_LOG_FIELDS: Final = 6


def commits(said: str) -> tuple[AgentCommit, ...]:
    """Return the commits of a log in `LOG_FORMAT`."""
    words = said.split("\0")[1:]
    rows = [words[at : at + _LOG_FIELDS] for at in range(0, len(words) - _LOG_FIELDS + 1, _LOG_FIELDS)]
    return tuple(_commit(*row) for row in rows)


def _commit(commit: str, at: str, parents: str, author: str, subject: str, stat: str) -> AgentCommit:
    counted = {word: int(number) for number, word in _COUNTED.findall(stat)}
    return AgentCommit(
        commit=commit,
        at=float(at or 0),
        author=author,
        subject=subject,
        files=counted.get("file", 0),
        added=counted.get("insertion", 0),
        removed=counted.get("deletion", 0),
        merge=" " in parents,
    )
