"""Files that go between chat and this machine: whole or not there, and for this user alone. They may be lost with the
power; what must not be is `core.durable_files`' to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def put(path: Path, content: bytes) -> None:
    """Write a file, with the folders that it is in.

    Raises:
        OSError: it cannot be written; what was there still does.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_bytes(content)
    part.replace(path)
