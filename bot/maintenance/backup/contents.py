"""What of an installation goes into a backup.

Everything in the state folder but what is listed here, so that what a later version keeps there goes in by itself; of
the configuration the two files and the roles.

Agents' homes and workspaces are hostile ground: whoever walks there follows no link, opens nothing but plain files and
folders, and holds on to the folder that it is in, since names may change under its feet.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG: Final = "config"
STATE: Final = "state"
REGISTER: Final = "register.db"

#: Of the configuration.
CONFIGURATION: Final = ("muster.yaml", "roster.yaml", "roles")
#: In the state folder, and never in a backup: of this machine or this moment, or made anew. The egress's ledger and the
#: emergency stop are not rolled back: what was used was used; nor is what was typed said again that was said since. Nor
#: are keys of encrypted rooms, which go on with each message: those of yesterday are an impostor's.
_LEFT: Final = frozenset(
    {
        "run",
        "versions",
        "current",
        "backups",
        "workspaces",
        "egress",
        "estop",
        "keys",
        "standby.lock",
        "drawing",
        "unsaid",
    }
)
#: A copy of that ledger goes in for the record, under this name.
LEDGER: Final = "egress-ledger.db"
#: In an agent's folder. The first of them holds the key that its runtime was given.
_LEFT_OF_AGENTS: Final = frozenset({"host.json", "host.lock", "host.log", "host.log.1", "host.wanted"})

#: What was moved aside by a restore.
KEPT: Final = "before-restore-"
#: No file is larger, in bytes, that an agent could have made: a hole of a terabyte costs it nothing.
LARGEST: Final = 4 * 2**30
DEEPEST: Final = 64

#: What a disk without room says.
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def belongs(name: str) -> bool:
    """Return whether an entry of the state folder belongs to what is backed up and put back, workspaces apart."""
    passing = name.startswith((".", KEPT, "muster.l", f"{REGISTER}-")) or name.endswith((".part", ".cut-off"))
    return not passing and name not in _LEFT and name != REGISTER


@dataclass(slots=True)
class Selection:
    """What a walk found, by its place in the backup: ``state/agents/coder0/journal/00000001.jsonl``."""

    folders: dict[str, int] = field(default_factory=dict)
    """With their modes."""
    links: dict[str, str] = field(default_factory=dict)
    """With what they say; nobody looked where they lead."""
    left_out: list[str] = field(default_factory=list)
    """What is missing, and why; a line each."""
    elsewhere: frozenset[str] = frozenset()
    """Places whose content stands elsewhere in the backup."""


def files_of(register: str) -> tuple[str, str, str]:
    """Return what a register's file, and those that SQLite keeps beside it, are called."""
    return register, f"{register}-wal", f"{register}-shm"


def within(state: Path, file: Path) -> PurePosixPath | None:
    """Return where below the state folder a file is, by whatever links either is named; None: elsewhere."""
    folder = state.resolve()
    found = file.parent.resolve() / file.name
    return PurePosixPath(found.relative_to(folder)) if found.is_relative_to(folder) else None


#: Called with the place of a file in the archive, the open file, and what is known of it.
Take: TypeAlias = "Callable[[str, BinaryIO, os.stat_result], None]"


def walk(folder: Path, place: str, take: Take, found: Selection) -> None:
    """Take everything below `folder`, which may itself be a link, as `place`.

    Args:
        folder: where it begins.
        place: what it is called in the backup.
        take: given each plain file, open, with what is known of it.
        found: what is no plain file is put there.
    """
    descriptor = os.open(folder, _FOLDER)
    try:
        _walk(descriptor, PurePosixPath(place), take, found)
    finally:
        os.close(descriptor)


def one(path: Path, place: str, take: Take) -> None:
    """Take a file of Muster's own, which may be a link."""
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


#: Errors of the disk that is written to; those of what is read are about one file.
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
        # Not blocking: in this moment it may have become a pipe that no one writes to.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
        with open(file, "rb") as stream:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                found.left_out.append(f"{place}: no plain file")
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
    """Return whether a link may be there: only where agents and runtimes keep their own things, never in Muster's."""
    parts = PurePosixPath(place).parts
    if parts[0] != STATE or len(parts) < 4:
        return False
    return parts[1] in ("workspaces", "logins") or (parts[1] == "agents" and parts[3] == "home" and len(parts) > 4)
