"""Logs that stay small while someone writes to them: their last part goes to a second file, and they start again.

Whoever writes has the file open to append, so writing goes on at its new end. What is written in the moment between the
copy and the cut is lost; that is for logs, and for nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes that a log has when no one says otherwise.
LIMIT: Final = 10 * 10**6
#: Seconds between two looks.
_EVERY_S: Final = 0.5


def earlier(log: Path) -> Path:
    """Return where the part goes that was cut off last."""
    return log.with_name(f"{log.name}.1")


def bound(log: Path, limit: int) -> bool:
    """Cut a log that is larger than `limit` bytes; its last half of that is kept. Says whether it was.

    Raises:
        OSError: it could not be.
    """
    try:
        descriptor = os.open(log, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size <= limit:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # someone else is at it
        tail = os.pread(descriptor, limit // 2, status.st_size - limit // 2)
        with contextlib.suppress(OSError):  # a full disk is no reason to let it grow
            _keep(earlier(log), tail)
        os.ftruncate(descriptor, 0)
        return True
    finally:
        os.close(descriptor)


def keep_bounded(log: Path, limit: int) -> threading.Event:
    """Look after this process's own log until the event is set, whatever else the process is busy with.

    Where its standard error does not go there, or not to be appended, there is nothing to look after.
    """
    done = threading.Event()
    if not _appends_to(log):
        return done

    def look() -> None:
        while not done.wait(_EVERY_S):
            with contextlib.suppress(OSError):
                bound(log, limit)

    threading.Thread(target=look, name="log", daemon=True).start()
    return done


def _appends_to(log: Path) -> bool:
    try:
        ours = os.fstat(2)
        return os.path.samestat(ours, os.stat(log)) and bool(fcntl.fcntl(2, fcntl.F_GETFL) & os.O_APPEND)
    except OSError:
        return False


def _keep(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content[content.find(b"\n") + 1 :])
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
