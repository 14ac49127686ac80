"""What tests of sandboxes share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.sandbox.two_agents import Ground


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """The folders of an agent, and of one beside it."""
    return Ground(tmp_path)
