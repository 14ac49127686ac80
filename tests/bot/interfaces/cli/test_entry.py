"""`muster --version` answers at once, and the same as the package's metadata."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.config.paths import Paths
from bot.config.state_folder import state_folder
from bot.interfaces.cli.entry import installed_version

SCRIPT = (
    "import sys; from bot.interfaces.cli.entry import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
)


def test_the_version_needs_no_command() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT, "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"muster {importlib.metadata.version('muster-fleet')}\n"
    loaded = set(run.stderr.splitlines()[-1].split())
    assert not {"click", "pathlib", "inspect", "importlib.metadata", "bot.commands.registry"} & loaded


def test_folders_that_are_no_package_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path / "missing"), str(tmp_path)])
    assert installed_version() is None
    (tmp_path / "muster_fleet-1.2.3.dist-info").mkdir()
    assert installed_version() == "1.2.3"
    # Two are the remains of an update that failed, and only the metadata can tell.
    (tmp_path / "muster_fleet-1.2.4.dist-info").mkdir()
    assert installed_version() is None


@pytest.mark.parametrize(
    "environ",
    [
        {"HOME": "/home/ana"},
        {"HOME": "relative"},
        {"HOME": "/home/ana", "XDG_STATE_HOME": "/data/../state"},
        {"HOME": "/home/ana", "XDG_STATE_HOME": "relative"},
        {"HOME": "/home/ana", "MUSTER_HOME": "~/fleet"},
        {"MUSTER_HOME": "../fleet"},
        {"MUSTER_HOME": "/srv//fleet/"},
        {"MUSTER_HOME": "~ana"},
    ],
)
def test_the_launcher_looks_where_the_installation_is(environ: dict[str, str]) -> None:
    assert Path(state_folder(environ)) == Paths.of(environ).state
    assert os.path.isabs(state_folder(environ))
