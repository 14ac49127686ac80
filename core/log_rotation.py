"""Log rotation during writes: the last part of a log moves to a second file, and the log is truncated.

The writer has the file open in append mode, so it continues at the new end. Lines written between the copy and the
truncation are lost. Use this for logs only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
from pathlib import Path
from typing import Final

#: The default maximum size of a log in bytes.
LIMIT: Final = 10 * 10**6
#: Seconds between two checks.
_EVERY_S: Final = 0.5


def earlier(log: Path) -> Path:
    """Return the path of the last part that was cut off."""
    return log.with_name(f"{log.name}.1")


def bound(log: Path, limit: int) -> bool:
    """Truncate a log that is larger than `limit` bytes, and keep its last `limit` / 2 bytes in the second file.

    Return whether the log was truncated.

    Raises:
        OSError: the log cannot be read or truncated.
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
    """Keep this process's own log bounded from a thread, until the returned event is set.

    Do nothing if the standard error of the process does not append to that log.
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
