"""The check whether other users of this machine can read a file with a secret.

The mode of many files allows others to read them, but the home folder does not. So the folders count as well: a user
who cannot enter each of them cannot reach the file. Access control lists are ignored.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path


def exposed(path: Path) -> str | None:
    """Return the beginning of a sentence that says who else can read a file; None if nobody can or it is missing."""
    try:
        real = path.resolve(strict=True)
        mode = real.stat()
        folders = [folder.stat() for folder in real.parents]
    except (OSError, RuntimeError):
        # RuntimeError: symlinks that form a loop.
        return None
    if mode.st_uid not in (os.geteuid(), 0):
        return f"{path} belongs to another user"
    shown = f"(mode {stat.S_IMODE(mode.st_mode):04o})"
    if mode.st_mode & stat.S_IROTH and all(folder.st_mode & stat.S_IXOTH for folder in folders):
        return f"{path} can be read by every user of this machine {shown}"
    group = mode.st_gid
    passes = (folder.st_mode & (stat.S_IXGRP if folder.st_gid == group else stat.S_IXOTH) for folder in folders)
    if mode.st_mode & stat.S_IRGRP and _has_others(group) and all(passes):
        return f"{path} can be read by the group {_group(group)} {shown}"
    return None


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _has_others(number: int) -> bool:
    """Return whether a group may have other members: it does not have this user's name, or it lists other users."""
    try:
        group, user = grp.getgrgid(number), pwd.getpwuid(os.geteuid())
    except KeyError:
        return True
    return group.gr_name != user.pw_name or bool(set(group.gr_mem) - {user.pw_name})
