"""Whether a file that holds a secret can be read by others of this machine.

Many people's files are open to others by their mode, in a home that is not. So the folders count, too: who may not
pass through each of them does not reach the file. Access lists are not looked at.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def exposed(path: Path) -> str | None:
    """Return a sentence's beginning that says who else can read a file; None: no one, or it is not there."""
    try:
        real = path.resolve(strict=True)
        mode = real.stat()
        folders = [folder.stat() for folder in real.parents]
    except (OSError, RuntimeError):
        # RuntimeError: links that lead in a circle.
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
    """Return whether a group may have others in it than this user: it is not the one that bears the user's name, or has
    members who are listed."""
    try:
        group, user = grp.getgrgid(number), pwd.getpwuid(os.geteuid())
    except KeyError:
        return True
    return group.gr_name != user.pw_name or bool(set(group.gr_mem) - {user.pw_name})
