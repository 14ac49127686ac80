"""The demo shows a fleet as one should be."""

from __future__ import annotations

from pathlib import Path

from bot.app import demo
from bot.config import loader
from bot.config.paths import Paths


def test_the_demo_begins_with_a_fleet_that_stands(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    paths = Paths.of({"MUSTER_HOME": str(tmp_path)})
    paths.roster_yaml.write_text(demo.demo_roster())
    found = loader.check(paths)
    assert found.problems == ()
    assert found.roster is not None
    core = {entry.name: entry.role for entry in found.roster.agents if entry.persistent}
    assert core == {"lead": "orchestrator", "polisher": "enhancer"}
    assert {entry.runtime for entry in found.roster.agents} == {"sim"}
    assert all(f"`{name}`, an {role}" in demo.HINT for name, role in core.items())
