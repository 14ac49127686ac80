"""Earlier versions run modules of this one under the names that they know; the wheel has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel of this version puts into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel")
    subprocess.run((*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT), check=True)
    (made,) = folder.glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


def _run(unpacked: Path, home: Path, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "MUSTER_HOME": str(home), "MUSTER_STAY": "1"}
    command = [sys.executable, "-P", "-m", *words]
    done = subprocess.run(
        command, env=environment, cwd="/", input=given, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bot", "bot.doors.cli"])
def test_says_its_version_under_each_name(unpacked: Path, tmp_path: Path, name: str) -> None:
    assert _run(unpacked, tmp_path, name, "--version").stdout.startswith("muster ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bot.maintenance.update.migrate", "bot.upkeep.moving_in"])
def test_surveys_and_migrates_under_each_name(unpacked: Path, tmp_path: Path, name: str) -> None:
    survey = json.loads(_run(unpacked, tmp_path, name, "survey", given="{}").stdout)
    assert (survey["protocol"], survey["problems"]) == (1, [])
    assert json.loads(_run(unpacked, tmp_path, name, "migrate", given="{}").stdout)["schema"] == survey["schema"]
