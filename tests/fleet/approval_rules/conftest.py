"""A workspace as an agent has it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A clone with a few files, and a link out of it."""
    root = tmp_path / "clone"
    for folder in (".git/hooks", "src/new"):
        (root / folder).mkdir(parents=True)
    for file in ("src/a.py", "README.md", "package.json", "a file", ".git/config"):
        (root / file).write_text("")
    (root / "out").symlink_to("/etc")
    return root
