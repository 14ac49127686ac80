"""Private files between chat and this machine: written completely or not at all, and readable only by this user.

They may be lost in a power failure. `core.durable_files` writes those that must not be.
"""

from __future__ import annotations

from pathlib import Path


def put(path: Path, content: bytes) -> None:
    """Write a file, and create its folders.

    Raises:
        OSError: the file cannot be written; an existing file stays unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_bytes(content)
    part.replace(path)
