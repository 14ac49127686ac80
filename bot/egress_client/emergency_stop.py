"""The emergency stop: a file in the state folder. While it is there, no egress of this host lets anything out.

It needs neither the orchestrator nor the egress to answer: the egress looks for it before every admission, and a few
times a second while anything streams.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from bot.text.errors import UserError
from core.durable_files import sync_folder

if TYPE_CHECKING:
    from pathlib import Path

NAME = "estop"


def pull(state: Path, *, by: str, at: str) -> bool:
    """Write the file. Durable when it returns.

    Args:
        state: the state folder.
        by: who says so; is in the file for whoever looks.
        at: when, for the same.

    Returns:
        False when it was there already.

    Raises:
        UserError: it could not be written.
    """
    path = state / NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        # Whoever was about to end it did not know of this one.
        with contextlib.suppress(OSError):
            os.utime(path, follow_symlinks=False)
        return False
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}. An empty file of this name is enough.", code="disk.unwritable"
        ) from error
    try:
        # Its being there is what counts: a full disk that takes no word of it keeps no one from stopping.
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
    """Take the file away. False: there was none."""
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
    """Return whether the stop holds."""
    return os.path.lexists(state / NAME)


def pulled_at(state: Path) -> float | None:
    """Return when it was pulled last, in seconds since the epoch; None: it is not."""
    try:
        return os.lstat(state / NAME).st_mtime
    except OSError:
        return None
