"""What tests of the agent host share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.host.scripted_agent import Agent


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """An agent whose runtime plays what it is told."""
    return Agent.make(tmp_path)
