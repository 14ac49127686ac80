"""The emergency stop: a file in the state folder. While it exists, no egress of this host admits any request.

It requires neither the orchestrator nor the egress to answer. The egress checks for the file before every admission,
and a few times a second while anything streams.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from bot.text.errors import UserError
from core.durable_files import sync_folder

NAME = "estop"


def pull(state: Path, *, by: str, at: str) -> bool:
    """Write the file durably.

    Args:
        state: the state folder.
        by: the person, for readers of the file.
        at: the time, for readers of the file.

    Returns:
        False if it already existed.

    Raises:
        UserError: it could not be written.
    """
    path = state / NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        # Update its time: a person who is about to clear the stop did not know of this one.
        with contextlib.suppress(OSError):
            os.utime(path, follow_symlinks=False)
        return False
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}. An empty file of this name is enough.", code="disk.unwritable"
        ) from error
    try:
        # The file's existence is the stop, so a full disk that takes no text must not prevent it.
        os.write(descriptor, f"{by} {at}\n".encode())
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
    with contextlib.suppress(OSError):
        sync_folder(state)
    return True


def release(state: Path) -> bool:
    """Delete the file. Return False if there was none."""
    path = state / NAME
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{path} cannot be deleted: {error.strerror}.", code="disk.unwritable") from error
    with contextlib.suppress(OSError):
        sync_folder(state)
    return True


def is_pulled(state: Path) -> bool:
    """Return whether the emergency stop is in effect."""
    return os.path.lexists(state / NAME)


def pulled_by(state: Path) -> str | None:
    """Return who pulled it first, as the file says, or None if it does not say."""
    try:
        with open(state / NAME, encoding="utf-8", errors="replace") as file:
            words = file.read(1000).split()
    except OSError:
        return None
    return words[0] if len(words) == 2 else None


def pulled_at(state: Path) -> float | None:
    """Return when it was last pulled, in seconds since the epoch, or None if it is not in effect."""
    try:
        return os.lstat(state / NAME).st_mtime
    except OSError:
        return None
