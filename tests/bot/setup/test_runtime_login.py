"""`muster login` runs the runtime's own login, with a home of Muster's and nothing else of the person's environment."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": f"{tmp_path / 'programs'}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "person"),
        "MUSTER_HOME": str(tmp_path / "muster"),
        "GITHUB_TOKEN": "not for the runtime",
    }


def muster(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "bot", *words], env=environ, capture_output=True, text=True, check=False
    )


def stand_in(folder: Path, name: str, status: int) -> None:
    folder.mkdir()
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "args: $*"; echo "home: $HOME"; echo "token: $GITHUB_TOKEN"; exit {status}\n')
    program.chmod(0o755)


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (7, 1)])
def test_the_runtimes_own_login_runs_in_a_home_of_its_own(
    tmp_path: Path, environ: dict[str, str], status: int, expected: int
) -> None:
    stand_in(tmp_path / "programs", "opencode", status)
    done = muster(environ, "login", "OpenCode")
    home = tmp_path / "muster" / "state" / "logins" / "opencode"
    assert done.returncode == expected, done.stderr
    assert done.stdout == f"args: auth login\nhome: {home}\ntoken: \n"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700


def test_a_program_that_does_not_ask_for_a_login_is_explained(tmp_path: Path, environ: dict[str, str]) -> None:
    stand_in(tmp_path / "programs", "pi", 0)
    (tmp_path / "programs" / "pi-acp").symlink_to("pi")
    done = muster(environ, "login", "pi")
    assert done.stdout.startswith("In pi, write /login and choose a provider. Then write /quit.\nargs: --no-session")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing", 'There is no runtime "nothing"; there are claude, codex,'),
        ("sim", "has no login of its own"),
    ],
)
def test_what_cannot_log_in(environ: dict[str, str], name: str, sentence: str) -> None:
    done = muster(environ, "login", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr


def test_a_program_that_is_missing_is_named(environ: dict[str, str]) -> None:
    done = muster(environ | {"PATH": "/nonexistent"}, "login", "opencode")
    assert done.returncode == 1
    assert "is not installed" in done.stderr
