"""The lock by which an agent has one agent host: ``FOLDER/host.lock``.

The kernel frees it with the process that holds it, whatever that dies of. So whether an agent host runs is asked of the
lock and never of a process id, which may long be another's.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from fleet.errors import FleetError

NAME: Final = "host.lock"

#: `holder` has the lock for an instant while it looks; whoever wants to hold it tries so often, this far apart.
_TRIES: Final = 20
_PAUSE_S: Final = 0.05


class HostLockHeld(FleetError):
    """This agent has an agent host already."""

    code = "agent.running"


def hold(folder: Path) -> int:
    """Take the lock; it is held until the returned descriptor is closed or the process ends.

    Raises:
        Held: another process has it.
        OSError: it cannot be had at all.
    """
    fd = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not left:
                os.close(fd)
                raise HostLockHeld from None
            time.sleep(_PAUSE_S)
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    return fd


def holder(folder: Path) -> int | None:
    """Return the process id that the holder wrote into the lock; None when no one holds it, 0 when it is not known."""
    try:
        fd = os.open(folder / NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 20, 0).strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(fd)
