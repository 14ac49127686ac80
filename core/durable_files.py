"""File writes that survive a power loss, completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Replace the file at `path` with `text`, accessible to this user only.

    Raises:
        OSError: the file cannot be written; the old one is unchanged.
    """
    beside = path.with_name(f"{path.name}.new")
    # A stale draft may be open to others.
    beside.unlink(missing_ok=True)
    number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_folder(path.parent)


def append(number: int, content: bytes, *, size: int, sync: bool = False) -> None:
    """Append all of `content` to an open file, or nothing.

    Args:
        number: the file's descriptor, opened with O_APPEND.
        content: the bytes to append.
        size: the file's length in bytes before this.
        sync: whether to wait until the content is on the disk.

    Raises:
        OSError: it cannot be appended, for example because the disk is full. The file is cut back to `size`, unless the
            file system refuses even that (those that copy on write can).
    """
    rest = memoryview(content)
    try:
        while rest:
            written = os.write(number, rest)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest = rest[written:]
        if sync:
            os.fdatasync(number)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(number, size)
            if sync:
                os.fdatasync(number)
        raise


def sync_folder(folder: Path | str) -> None:
    """Write the entries of a folder to disk, since the fsync of a file does not include its name (fsync(2))."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time change a file. The lock is a hidden file beside it, and ends with its holder.

    Raises:
        OSError: the lock cannot be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
