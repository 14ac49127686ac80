"""A forge and an agent's clone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forge.publishing.git_server import GitServer, served
from tests.forge.publishing.stage import Stage


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with served(tmp_path / "forge") as server:
        yield server


@pytest.fixture
def stage(tmp_path: Path, server: GitServer) -> Stage:
    if not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    return Stage(tmp_path, server)
