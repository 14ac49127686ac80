"""What tests of workspaces share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.workspace.repository import Ground


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """A repository with its first commits, and where agents' clones of it go."""
    return Ground(tmp_path).begin()
