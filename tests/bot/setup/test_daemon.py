"""`muster up --detach` and `muster down`, with a real orchestrator in a folder of its own."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.api_client import Client
from bot.auth.owner import owner_identity
from bot.config.instance_lock import holder
from bot.config.paths import Paths
from bot.setup import daemon, offline_stop
from bot.text.errors import NotRunning, UserError
from core.errors import MusterError
from fleet import presets
from fleet.supervision import host_lifecycle, host_lock, offline_orders
from tests.fleet.host.scripted_agent import Agent
from tests.postgres import Postgres


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MUSTER_HOME": str(tmp_path / "muster")}


@pytest.fixture
def paths(environ: dict[str, str]) -> Iterator[Paths]:
    paths = Paths.of(environ)
    yield paths
    if holder(paths.lock) is not None:
        daemon.stop(paths, agents_too=True)


def muster(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "bot", *words], env=environ, capture_output=True, text=True, check=False
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
        daemon.start(paths, environ)
    again = muster(environ, "up", "--unattended")
    assert (again.returncode, "running here already" in again.stderr) == (1, True)

    said = muster(environ, "down", "--all")
    assert (said.returncode, said.stdout) == (0, "Muster and its agents are stopped.\n")
    assert not paths.gateway_socket.exists()
    with pytest.raises(NotRunning):
        daemon.stop(paths, agents_too=False)
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


async def spawned(paths: Paths, name: str) -> Agent:
    """An agent whose host runs, in the place where this installation has it."""
    paths.prepare()
    agent = Agent.make(paths.state / name)
    agent.spec = replace(
        agent.spec, agent=name, folder=str(paths.agent_folder(name)), socket=str(paths.agent_socket(name))
    )
    await host_lifecycle.spawn(agent.launch())
    return agent


def corrupt(register: Path) -> None:
    register.write_bytes(b"SQLite format 3\x00" + b"\xff" * 8192)


def missing(register: Path) -> None:
    register.with_name("register.db-wal").touch()


def unreadable(register: Path) -> None:
    register.mkdir()


@pytest.mark.parametrize(
    "damage",
    [corrupt, pytest.param(missing, marks=pytest.mark.slow), pytest.param(unreadable, marks=pytest.mark.slow)],
)
def test_agents_are_ended_where_muster_is_dead_and_its_register_is_damaged(
    paths: Paths, environ: dict[str, str], damage: Callable[[Path], None]
) -> None:
    agents = {name: asyncio.run(spawned(paths, name)) for name in ("a", "b", "c")}
    damage(paths.state / "register.db")
    assert muster(environ, "ps").returncode == 3

    said = muster(environ, "stop", "a")
    assert (said.returncode, said.stdout.splitlines()[0].split(". ")[0]) == (0, "a is stopped"), said
    said = muster(environ, "kill", "b", "--yes")
    assert (said.returncode, said.stdout.startswith("b is killed")) == (0, True), said
    said = muster(environ, "stop", "nobody")
    assert (said.returncode, "Running: c." in said.stderr) == (1, True), said

    said = muster(environ, "down", "--all")
    assert (said.returncode, said.stdout) == (
        0,
        "Muster was not running here; its agents were, and are stopped. Stopped: c.\n",
    ), said
    for name, agent in agents.items():
        assert not host_lifecycle.is_running(agent.folder)
        assert agent.left_over() == []
        assert offline_orders.keeps_down(agent.folder) is (name in {"a", "b"}), (
            "those of down --all come back with Muster"
        )
    assert muster(environ, "down", "--all").returncode == 3


@pytest.mark.slow
def test_orders_that_are_given_while_muster_is_killed_hold_when_it_is_back(
    paths: Paths, environ: dict[str, str]
) -> None:
    paths.prepare()
    paths.roster_yaml.write_text(presets.text("coding", runtime="sim", sandbox="none"))
    assert muster(environ, "up", "--detach").returncode == 0
    assert until(lambda: states(environ) == {"lead": "idle", "polisher": "idle"}), states(environ)
    running = holder(paths.lock)
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    assert until(lambda: holder(paths.lock) is None)

    said = muster(environ, "ps")
    assert (said.returncode, "not running" in said.stderr) == (3, True), said
    for name in ("lead", "polisher"):
        assert re.search(rf"{name} .*idle \(protocol", said.stdout), said.stdout
    for words, beginning in (
        (["stop", "lead"], "lead is stopped. Muster was not asked."),
        (["freeze", "polisher"], "polisher is frozen. Muster was not asked."),
        (["resume", "polisher"], "polisher runs again. Muster was not asked."),
    ):
        said = muster(environ, *words)
        assert (said.returncode, said.stdout.startswith(beginning)) == (0, True), said
    said = muster(environ, "freeze", "polisher", "--json")
    assert (said.returncode, json.loads(said.stdout)) == (0, {"id": None, "state": "frozen"}), said
    said = muster(environ, "resume", "polisher", "--prompt", "go on")
    assert (said.returncode, "without a prompt" in said.stderr) == (3, True), said
    said = muster(environ, "resume", "lead")
    assert (said.returncode, "stopped, not frozen" in said.stderr) == (1, True), said
    assert offline_stop.running(paths) == []
    said = muster(environ, "ps", "--all")
    assert re.search(r"lead .*stopped \(journal", said.stdout), said.stdout
    assert re.search(r"polisher .*frozen \(journal", said.stdout), said.stdout

    assert muster(environ, "up", "--detach").returncode == 0
    assert until(lambda: states(environ) == {"polisher": "frozen"}), states(environ)
    assert until(lambda: len(audit(environ)) == 4), audit(environ)
    assert {line["identity"] for line in audit(environ)} == {owner_identity()}
    for name, orders in {"lead": ["stop"], "polisher": ["freeze", "resume", "freeze"]}.items():
        assert [line["action"] for line in audit(environ) if line["arguments"]["name"] == name] == orders


def audit(environ: dict[str, str]) -> list[dict[str, Any]]:
    """What the audit has of orders for agents."""
    lines = json.loads(muster(environ, "audit", "--json").stdout)
    return [line for line in lines if line["action"] in {"stop", "kill", "freeze", "resume"}]


async def test_an_agent_host_that_hangs_is_ended_by_force(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline_stop, "ANSWER_S", 0.2)
    agent = await spawned(paths, "a")
    os.kill(host_lock.holder(agent.folder) or 0, signal.SIGSTOP)
    with pytest.raises(MusterError, match=r"did not answer .* ends it by force"):
        await asyncio.to_thread(offline_stop.stop, paths, "a", now=True)
    assert await asyncio.to_thread(offline_stop.stop_all, paths) == ["a"]
    assert not host_lifecycle.is_running(agent.folder)
    assert agent.left_over() == []


@pytest.mark.slow
def test_agents_are_ended_where_the_register_is_damaged_under_a_running_muster(
    paths: Paths, environ: dict[str, str]
) -> None:
    paths.prepare()
    paths.roster_yaml.write_text(presets.text("coding", runtime="sim", sandbox="none"))
    assert muster(environ, "up", "--detach").returncode == 0
    assert until(lambda: states(environ) == {"lead": "idle", "polisher": "idle"}), states(environ)
    with (paths.state / "register.db").open("r+b") as register:
        register.write(b"\xff" * os.fstat(register.fileno()).st_size)
    (paths.state / "register.db-wal").write_bytes(b"")
    said = muster(environ, "kill", "polisher", "--yes")
    assert (said.returncode, said.stdout.startswith("polisher is killed")) == (0, True), said
    said = muster(environ, "down", "--all")
    assert (said.returncode, said.stdout) == (0, "Muster and its agents are stopped. Stopped: lead.\n"), said
    assert offline_stop.running(paths) == []


@pytest.mark.slow
async def test_agents_are_ended_where_the_server_of_the_register_is_away(paths: Paths, environ: dict[str, str]) -> None:
    server = Postgres()
    server.start()
    try:
        paths.prepare()
        paths.muster_yaml.write_text(f"register: {{url: '{server.url(await server.database())}'}}\n")
        paths.roster_yaml.write_text(presets.text("coding", runtime="sim", sandbox="none"))
        assert muster(environ, "up", "--detach").returncode == 0
        both = {"lead": "idle", "polisher": "idle"}
        assert await asyncio.to_thread(until, lambda: states(environ) == both), states(environ)
        server.kill()
        said = await asyncio.to_thread(muster, environ, "health")
        assert said.stdout.startswith("**down**"), said
        assert "agents: not known while the register is away" in said.stdout
        said = await asyncio.to_thread(muster, environ, "stop", "lead")
        assert (said.returncode, said.stdout.startswith("lead is stopped")) == (0, True), said
        said = await asyncio.to_thread(muster, environ, "kill", "polisher", "--yes")
        assert (said.returncode, said.stdout.startswith("polisher is killed")) == (0, True), said
        said = await asyncio.to_thread(muster, environ, "down", "--all")
        assert (said.returncode, said.stdout) == (0, "Muster and its agents are stopped.\n"), said
        assert offline_stop.running(paths) == []
    finally:
        server.remove()


@pytest.mark.slow
def test_a_start_that_fails_says_why(paths: Paths, environ: dict[str, str]) -> None:
    paths.prepare()
    paths.log.write_text("what an earlier run said\n")
    paths.muster_yaml.write_text("connectors: 5\n")
    with pytest.raises(MusterError) as failed:
        daemon.start(paths, environ)
    assert "muster.yaml" in str(failed.value)
    assert "earlier run" not in str(failed.value)
    said = muster(environ, "up", "--detach")
    assert (said.returncode, said.stdout) == (1, "")
    assert "Traceback" not in said.stderr
