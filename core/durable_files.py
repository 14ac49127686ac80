"""Files that are there after a loss of power, whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> None:
    """Put `text` in the place of what stands there, for this user alone.

    Raises:
        OSError: it could not be written; what stood there still does.
    """
    beside = path.with_name(f"{path.name}.new")
    # One that was left behind may be open to others.
    beside.unlink(missing_ok=True)
    number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_folder(path.parent)


def sync_folder(folder: Path | str) -> None:
    """Have on the disk which files there are in a folder (fsync(2): that of a file alone does not name it)."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
