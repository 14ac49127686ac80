"""What `muster config check` says in a shell of a Muster that runs meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bot.config.instance_lock import only_one
from bot.config.paths import Paths
from bot.interfaces.cli import process_commands


def test_a_check_names_what_takes_an_edit_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path))
    paths = Paths.of(os.environ)
    paths.state.mkdir()
    paths.muster_yaml.write_text("timezone: UTC\n")
    with only_one(paths.lock):
        os.utime(paths.lock, (1.0, 1.0))
        assert process_commands.config_check.main([], standalone_mode=False) == 0
    told = capsys.readouterr().out
    assert "`muster roster apply` has it take up what it says of accounts, budgets, dispatch" in told
    assert "All else holds once it is started again: `muster down`" in told
