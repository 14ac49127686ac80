"""The roster is known as it stands in its file, and read only when that changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.roster import loader
from fleet.roster.cache import LatestRoster


async def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    load = loader.load
    monkeypatch.setattr(loader, "load", lambda path: reads.append(path) or load(path))  # type: ignore[func-returns-value]
    latest = LatestRoster(tmp_path / "roster.yaml")
    assert latest.names is None
    await latest.refresh()
    assert latest.names == set(), "no file is an empty roster"
    latest.path.write_text("agents: [{name: coder0}]\n")
    for _ in range(3):
        await latest.refresh()
    assert latest.names == {"coder0"}
    assert len(reads) == 2


async def test_with_a_mistake_in_it_nobody_is_said_to_be_missing_and_the_old_limits_hold(tmp_path: Path) -> None:
    latest = LatestRoster(tmp_path / "roster.yaml", heartbeat_s=10.0, freshness_s=40.0)
    latest.path.write_text("agents: [{name: slow, heartbeat: 1m}, {name: quick, freshness: 20s}, {name: plain}]\n")
    await latest.refresh()
    limits = {name: latest.fresh_for(name) for name in ("slow", "quick", "plain", "nobody")}
    assert limits == {"slow": 120.0, "quick": 20.0, "plain": 40.0, "nobody": 40.0}
    latest.path.write_text("agents: [{nam: slow}]\n")
    await latest.refresh()
    assert latest.names is None
    assert "nam" in (latest.problem or "")
    assert latest.fresh_for("slow") == 120.0
