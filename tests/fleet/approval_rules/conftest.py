"""A workspace as an agent has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.approval_rules.corpus import make_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A clone with a few files, and links out of it."""
    return make_workspace(tmp_path / "clone")
