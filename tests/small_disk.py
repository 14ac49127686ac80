"""A disk that is soon full, for tests that are run as root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own in `folder`; `size` is as mount(8) takes it for a tmpfs, like 1m."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    mount = folder / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"needs root that may mount: {mounted.stderr.decode()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)
