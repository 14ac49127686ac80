"""The lock that allows one orchestrator per installation. It ends with its process and records its holder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.text.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


#: Attempts to take the lock, and seconds between them: `holder` itself takes the lock for a moment.
_TRIES, _PAUSE = 5, 0.03


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of the lock, as it recorded itself."""

    pid: int
    host: str
    note: str = ""
    """The holder's description of itself."""


class AlreadyRunning(UserError):
    """Another orchestrator runs on this installation."""

    code = "muster.running"

    def __init__(self, holder: Holder | None) -> None:
        who = f" (process {holder.pid} on {holder.host})" if holder is not None else ""
        super().__init__(f"Muster is running here already{who}. `muster down` stops it; `muster chat` talks to it.")
        self.holder = holder


@contextmanager
def only_one(path: Path, *, note: str = "") -> Iterator[None]:
    """Hold the lock for as long as the block runs.

    Args:
        path: the lock file.
        note: the holder's description, for processes that find the lock taken.

    Raises:
        AlreadyRunning: another process holds the lock.
        UserError: the disk is full.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(descriptor)
        said = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "note": note}).encode()
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, said, 0)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror}. Make room on its disk.", code="disk.unwritable"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> None:
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise AlreadyRunning(_read(descriptor)) from None
            time.sleep(_PAUSE)
        else:
            return


def holder(path: Path) -> Holder | None:
    """Return the current holder of the lock, or None. A stale lock file has no holder."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor) or Holder(0, "this machine")
    finally:
        os.close(descriptor)
    return None


def _read(descriptor: int) -> Holder | None:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        return Holder(int(found["pid"]), str(found["host"]), str(found.get("note", "")))
    except (ValueError, KeyError, TypeError):
        return None
