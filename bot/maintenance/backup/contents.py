"""The contents of a backup.

A backup contains everything in the state folder except the entries listed here, so new entries of later versions are
included. Of the configuration, it contains the two files and the roles.

Agents control their homes and workspaces, so their content is untrusted. The walk follows no links and opens only plain
files and folders. It works relative to the descriptor of the current folder, because paths may change meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, TypeAlias

CONFIG: Final = "config"
STATE: Final = "state"
REGISTER: Final = "register.db"

#: Entries of the configuration folder.
CONFIGURATION: Final = ("muster.yaml", "roster.yaml", "roles")
#: Entries of the state folder that are never in a backup, because they belong to this machine or moment, or are made
#: again. The egress's ledger and the emergency stop must not be rolled back: the usage has happened. Text that was
#: typed must not be sent again. Keys of encrypted rooms advance with each message, so old keys would look like an
#: impostor's.
_LEFT: Final = frozenset(
    {
        "run",
        "versions",
        "current",
        "backups",
        "workspaces",
        "repositories",
        "egress",
        "estop",
        "keys",
        "standby.lock",
        "drawing",
        "unsaid",
    }
)
#: The name of the ledger's copy, which is included for the record.
LEDGER: Final = "egress-ledger.db"
#: Entries of an agent's folder to leave out. host.json contains the key of the agent's runtime.
_LEFT_OF_AGENTS: Final = frozenset({"host.json", "host.lock", "host.log", "host.log.1", "host.wanted"})

#: The prefix of folders that a restore moved aside.
KEPT: Final = "before-restore-"
#: The largest file to include, in bytes: a sparse file of a terabyte costs an agent nothing.
LARGEST: Final = 4 * 2**30
DEEPEST: Final = 64

#: Errors that mean that the disk is full.
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def belongs(name: str) -> bool:
    """Return whether an entry of the state folder is backed up and restored. Workspaces are decided separately."""
    passing = name.startswith((".", KEPT, "muster.l", f"{REGISTER}-")) or name.endswith((".part", ".cut-off"))
    return not passing and name not in _LEFT and name != REGISTER


@dataclass(slots=True)
class Selection:
    """The result of a walk, by place in the backup: ``state/agents/coder0/journal/00000001.jsonl``."""

    folders: dict[str, int] = field(default_factory=dict)
    """The folders and their modes."""
    links: dict[str, str] = field(default_factory=dict)
    """The links and their targets, which were not checked."""
    left_out: list[str] = field(default_factory=list)
    """The entries that are missing from the backup, and why; a line each."""
    elsewhere: frozenset[str] = frozenset()
    """Places whose content is included elsewhere in the backup."""


def files_of(register: str) -> tuple[str, str, str]:
    """Return the names of an SQLite register's file and of the files that SQLite keeps beside it."""
    return register, f"{register}-wal", f"{register}-shm"


def within(state: Path, file: Path) -> PurePosixPath | None:
    """Return the path of a file relative to the state folder, with links resolved; None if it is outside."""
    folder = state.resolve()
    found = file.parent.resolve() / file.name
    return PurePosixPath(found.relative_to(folder)) if found.is_relative_to(folder) else None


#: A function that takes the file's place in the archive, the open file and its status.
Take: TypeAlias = "Callable[[str, BinaryIO, os.stat_result], None]"


def walk(folder: Path, place: str, take: Take, found: Selection) -> None:
    """Pass every plain file below `folder` to `take`, and record the rest in `found`.

    Args:
        folder: where the walk begins; it may be a link.
        place: its name in the backup.
        take: called with each plain file.
        found: receives folders, links and the entries that were left out.
    """
    descriptor = os.open(folder, _FOLDER)
    try:
        _walk(descriptor, PurePosixPath(place), take, found)
    finally:
        os.close(descriptor)


def one(path: Path, place: str, take: Take) -> None:
    """Pass a file of Muster's own, which may be a link, to `take`."""
    with path.open("rb") as stream:
        take(place, stream, os.fstat(stream.fileno()))


def _walk(descriptor: int, place: PurePosixPath, take: Take, found: Selection) -> None:
    found.folders[str(place)] = stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o777
    for name in sorted(os.listdir(descriptor)):
        inside = place / name
        if not _wanted(inside) or str(inside) in found.elsewhere:
            continue
        try:
            _entry(descriptor, name, inside, take, found)
        except FileNotFoundError:
            continue  # it is gone meanwhile
        except OSError as error:
            if error.filename is None and error.strerror is not None and error.errno in _OURS:
                raise
            found.left_out.append(f"{inside}: {error.strerror}")


#: Errors of the disk that the backup is written to. Other errors concern the file that is read.
_OURS: Final = NO_ROOM | {errno.EIO, errno.EFBIG, errno.EROFS}


def _entry(descriptor: int, name: str, place: PurePosixPath, take: Take, found: Selection) -> None:
    kind = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
    if stat.S_ISLNK(kind) and may_link(str(place)):
        found.links[str(place)] = os.readlink(name, dir_fd=descriptor)
    elif stat.S_ISLNK(kind):
        found.left_out.append(f"{place}: a link")
    elif stat.S_ISDIR(kind):
        if len(place.parts) > DEEPEST:
            found.left_out.append(f"{place}: more than {DEEPEST} folders deep")
            return
        below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
        try:
            _walk(below, place, take, found)
        finally:
            os.close(below)
    elif stat.S_ISREG(kind):
        # Non-blocking, because it may have become a pipe without a writer in the meantime.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
        with open(file, "rb") as stream:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                found.left_out.append(f"{place}: not a plain file")
            elif status.st_size > LARGEST:
                found.left_out.append(f"{place}: larger than {LARGEST // 2**30} GiB")
            else:
                take(str(place), stream, status)
    else:
        found.left_out.append(f"{place}: a socket, a pipe or a device")


def _wanted(place: PurePosixPath) -> bool:
    parts = place.parts
    if parts[0] != STATE:
        return True
    if len(parts) == 4 and parts[1] == "agents":
        return parts[3] not in _LEFT_OF_AGENTS and not parts[3].endswith(".part")
    return True


def may_link(place: str) -> bool:
    """Return whether a link is allowed: only in folders of agents and runtimes, never in Muster's own."""
    parts = PurePosixPath(place).parts
    if parts[0] != STATE or len(parts) < 4:
        return False
    return parts[1] in ("workspaces", "logins") or (parts[1] == "agents" and parts[3] == "home" and len(parts) > 4)
