"""What `muster config check` says in a shell of a Muster that runs meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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


def test_a_check_names_missing_secrets_for_people_and_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path))
    monkeypatch.delenv("BOT_TOKEN", raising=False)
    paths = Paths.of(os.environ)
    paths.muster_yaml.write_text(
        'connectors: {matrix: {homeserver: "https://m.example.org", user: "@b:m.org", access_token: env:BOT_TOKEN}}'
    )
    paths.muster_yaml.chmod(0o600)
    assert process_commands.config_check.main([], standalone_mode=False) == 0
    warning = "muster.yaml: connectors.matrix.access_token: The environment variable BOT_TOKEN is not set."
    assert f"warning: {warning}" in capsys.readouterr().err
    assert process_commands.config_check.main(["--json"], standalone_mode=False) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["valid"]
    assert [each for each in found["warnings"] if each.startswith(warning)]
    paths.muster_yaml.write_text("timezone: Nowhere\n")
    assert process_commands.config_check.main(["--json"], standalone_mode=False) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["key"], problem["line"]) == ("timezone", 1)


def _up(home: Path, stdin: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "bot", "up"],
        env={**os.environ, "MUSTER_HOME": str(home)},
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_without_a_terminal_muster_runs_until_it_is_stopped(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with _up(tmp_path, subprocess.DEVNULL) as running:
        assert running.stderr is not None
        try:
            assert "so Muster runs unattended" in running.stderr.readline()
            # Its log goes to standard error, as a service's does.
            assert any("connector.starting" in line for line in running.stderr)
            assert running.poll() is None
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0


def test_the_end_of_piped_input_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with _up(tmp_path, subprocess.PIPE) as running:
        _, told = running.communicate("", timeout=60)
    assert "The input has ended, so Muster stops" in told
    assert running.returncode == 0
