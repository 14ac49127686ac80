"""Files that an agent may have had a hand in, or that a crash may catch half written."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from pathlib import Path


def content(path: Path, limit: int = -1) -> bytes | None:
    """Return what a file holds, up to `limit` bytes; None where there is none, or a link, or something else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        with open(handle, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(handle)


def put(path: Path, text: bytes) -> None:
    """Write a file whole or not at all, unless it says just that."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == text:
            return
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(text)
    part.replace(path)


def delete(folder: Path) -> bool:
    """Delete a folder, whatever an agent closed to its owner or nested too deep for Python in it."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(folder)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return not folder.exists()


def occupied(place: Path) -> bool:
    """Return whether there is anything."""
    return place.exists() and (not place.is_dir() or any(place.iterdir()))
