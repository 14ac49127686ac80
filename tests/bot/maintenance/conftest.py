"""What tests of this folder share."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bot.config.paths import Paths
from tests.bot.maintenance.installation import put


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """An installation that never ran, with a register of one row and a file of each kind."""
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path / "home"))
    made = Paths.of(os.environ)
    made.prepare()
    made.muster_yaml.write_text("timezone: Europe/Vienna\n")
    made.roles.mkdir()
    (made.roles / "tester.md").write_text("---\nmandate: test\n---\nTest.\n")
    home = made.agent_folder("imp") / "home"
    home.mkdir(parents=True)
    (home / "login.json").write_text("{}")
    (home / "run.sh").write_text("#!/bin/sh\n")
    (home / "run.sh").chmod(0o755)
    asyncio.run(put(made.register_url, "ana"))
    return made
