"""`muster up --detach` and `muster down`, with a real orchestrator in a folder of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.doors import background
from bot.doors.client import Client
from bot.errors import NotRunning, UserError
from bot.lock import holder
from bot.paths import Paths
from fleet import lock, presets
from register.errors import MusterError


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MUSTER_HOME": str(tmp_path / "muster")}


@pytest.fixture
def paths(environ: dict[str, str]) -> Iterator[Paths]:
    paths = Paths.of(environ)
    yield paths
    if holder(paths.lock) is not None:
        background.stop(paths, agents_too=True)


def muster(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "bot.doors.cli", *words], env=environ, capture_output=True, text=True, check=False
    )


def test_up_and_down(paths: Paths, environ: dict[str, str]) -> None:
    said = muster(environ, "up", "--detach")
    assert (said.returncode, said.stderr) == (0, "")
    running = holder(paths.lock)
    assert running is not None
    assert f"process {running.pid}" in said.stdout
    assert Client(paths.gateway_socket).get("/v1/health").status == 200
    assert muster(environ, "ps", "--json").stdout == "[]\n"

    with pytest.raises(UserError, match="running here already"):
        background.start(paths, environ)
    again = muster(environ, "up", "--unattended")
    assert (again.returncode, "running here already" in again.stderr) == (1, True)

    said = muster(environ, "down", "--all")
    assert (said.returncode, said.stdout) == (0, "Muster and its agents are stopped.\n")
    assert not paths.gateway_socket.exists()
    with pytest.raises(NotRunning):
        background.stop(paths, agents_too=False)
    assert muster(environ, "down").returncode == 3
    assert muster(environ, "ps").returncode == 3


@pytest.mark.slow
def test_the_persistent_agents_come_and_go_with_muster(paths: Paths, environ: dict[str, str]) -> None:
    paths.prepare()
    paths.roster_yaml.write_text(presets.text("coding", runtime="sim", sandbox="none"))
    assert muster(environ, "up", "--detach", "--no-agents").returncode == 0
    assert muster(environ, "ps", "--all", "--json").stdout.count('"stopped"') == 2, "the core, and it does not run"
    assert muster(environ, "down").returncode == 0

    for _ in range(2):
        assert muster(environ, "up", "--detach").returncode == 0
        assert until(lambda: states(environ) == {"lead": "idle", "polisher": "idle"}), states(environ)
        said = muster(environ, "down", "--all")
        assert (said.returncode, said.stdout) == (
            0,
            "Muster and its agents are stopped. Stopped: lead, polisher.\n",
        )


def states(environ: dict[str, str]) -> dict[str, str]:
    fleet = json.loads(muster(environ, "ps", "--json").stdout)
    return {agent["name"]: agent["state"] for agent in fleet}


def until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within a minute."""
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def test_a_home_that_is_a_file_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "muster").touch()
    said = muster(environ, "up", "--detach")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == f"{tmp_path}/muster is not a folder. Move it away, or set MUSTER_HOME to another place.\n"
    assert muster(environ, "down").returncode == 3


def test_down_all_names_agents_that_run_without_an_orchestrator(paths: Paths, environ: dict[str, str]) -> None:
    folder = paths.agents / "coder0"
    folder.mkdir(parents=True)
    held = lock.hold(folder)
    try:
        said = muster(environ, "down", "--all")
    finally:
        os.close(held)
    assert said.returncode == 3
    assert "these agents are: coder0. `muster up --detach` and then `muster down --all` stops them." in said.stderr
    assert "these agents" not in muster(environ, "down", "--all").stderr


@pytest.mark.slow
def test_a_start_that_fails_says_why(paths: Paths, environ: dict[str, str]) -> None:
    paths.prepare()
    paths.log.write_text("what an earlier run said\n")
    paths.muster_yaml.write_text("connectors: 5\n")
    with pytest.raises(MusterError) as failed:
        background.start(paths, environ)
    assert "muster.yaml" in str(failed.value)
    assert "earlier run" not in str(failed.value)
    said = muster(environ, "up", "--detach")
    assert (said.returncode, said.stdout) == (1, "")
    assert "Traceback" not in said.stderr
