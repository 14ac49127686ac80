"""The doctor says what a machine lacks, what that costs, and how to get it; it changes nothing and reveals nothing."""

from __future__ import annotations

import email.utils
import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bot.config import loader
from bot.config.instance_lock import only_one
from bot.config.paths import Paths
from bot.interfaces.cli.process_commands import config_check
from bot.setup import doctor, systemd_units
from bot.setup.doctor import DoctorFinding, hosting, installation, machine, network, tmux
from database.engine.store import Store
from fleet.sandbox import command_wrapper
from fleet.sandbox.selection import Availability
from tests.fleet.hosting import hosting_places
from tests.postgres import Postgres


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    tmp_path.chmod(0o700)
    return Paths.of({"MUSTER_HOME": str(tmp_path)})


def nothing(name: str) -> str | None:
    return None


def named(findings: list[DoctorFinding], name: str) -> DoctorFinding:
    return next(finding for finding in findings if finding.name == name)


def test_a_bare_machine_lacks_much_and_is_told_what_it_costs(paths: Paths) -> None:
    findings = doctor.examine(paths, {}, which=nothing)
    lacking = {finding.name for finding in findings if finding.state == "missing"}
    assert {"git", "tmux", "podman", "node", "npm", "claude", "codex", "opencode", "pi"} <= lacking
    for finding in findings:
        if finding.state == "missing":
            assert finding.costs, finding
            assert finding.way, finding
    assert "npm install -g opencode-ai" in doctor.text(findings)


def test_it_changes_nothing(paths: Paths) -> None:
    doctor.examine(paths, {}, which=nothing)
    assert list(paths.config.iterdir()) == []


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("script", "state", "found"),
    [
        ("echo v22.1.0", "ok", "v22.1.0"),
        ("echo v18.20.0", "missing", "v18.20.0"),
        ("exit 3", "missing", "does not answer"),
        ("printf 'v22.1.0\\033[31m'", "ok", "v22.1.0[31m"),
        ("echo", "missing", "does not answer"),
    ],
)
def test_a_program_is_asked_for_its_version(paths: Paths, tmp_path: Path, script: str, state: str, found: str) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    program(bin_, "node", script)

    def which(name: str) -> str | None:
        return str(bin_ / name) if (bin_ / name).exists() else None

    finding = named(doctor.examine(paths, {}, which=which), "node")
    assert (finding.state, found in finding.found) == (state, True)


def test_what_is_too_old_is_missing(paths: Paths, tmp_path: Path) -> None:
    program(tmp_path, "git", "echo git version 2.29.9")
    program(tmp_path, "tmux", "echo tmux 2.9a")
    findings = doctor.examine(paths, {}, which=lambda name: str(tmp_path / name) if name in ("git", "tmux") else None)
    for name, least in (("git", "2.30"), ("tmux", "3.0")):
        assert (named(findings, name).state, least in named(findings, name).way) == ("missing", True)


def test_where_agents_are_to_run_is_looked_at(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.roster_yaml.write_text("agents: [{name: a, hosting: tmux}, {name: b, hosting: systemd}]\n")
    checked = loader.check(paths)
    lacking = list(hosting.examine(checked, paths, nothing))
    assert {each.name: each.state for each in lacking} == {
        "hosting tmux": "wrong", "hosting systemd": "wrong", "systemd": "missing",
    }  # fmt: skip
    record = hosting_places.systemd(tmp_path, monkeypatch)
    (record / "refuses").touch()
    (away,) = hosting.examine(checked, paths, shutil.which)
    assert (away.state, "No medium found" in away.found, "enable-linger" in away.way) == ("wrong", True, True)
    (record / "refuses").unlink()
    (ready,) = hosting.examine(checked, paths, shutil.which)
    assert (ready.state, "muster install" in ready.found) == ("ok", True)
    systemd_units.settle(paths, checked.roster.agents if checked.roster else ())
    monkeypatch.setattr(hosting, "LINGERING", tmp_path / "nobody")
    (installed,) = hosting.examine(checked, paths, shutil.which)
    assert (installed.state, installed.way) == ("wrong", "loginctl enable-linger")
    assert installed.found.startswith("1 unit of this installation, 1 enabled")


def test_docker_will_do_for_podman(paths: Paths, tmp_path: Path) -> None:
    program(tmp_path, "docker", "echo Docker version 27")

    def which(name: str) -> str | None:
        return str(tmp_path / name) if name == "docker" else None

    assert named(doctor.examine(paths, {}, which=which), "podman").found == "Docker version 27"


def test_a_sandbox_that_does_not_work_says_why() -> None:
    finding = machine.bubblewrap(Availability(False, "User namespaces are off."))
    assert finding.state == "missing"
    assert "sandbox: none" in finding.costs
    assert finding.way == "User namespaces are off."
    assert machine.bubblewrap(Availability(True)).state == "ok"


def test_a_profile_that_is_a_container_is_tried_and_told_by_its_name(paths: Paths) -> None:
    paths.muster_yaml.write_text(
        "sandboxes: {box: {kind: container, image: localhost/agents}, web: {routes: [docs.python.org]}}\n"
    )
    checked = loader.check(paths)
    (wrong,) = machine.containers(checked, lambda profile: Availability(False, f"no image {profile.image}"))
    assert (wrong.name, wrong.state, wrong.way) == ("sandbox box", "wrong", "no image localhost/agents")
    (well,) = machine.containers(checked, lambda _: Availability(True))
    assert well.state == "ok"


@pytest.mark.parametrize(
    ("root", "release", "hosting", "controllers", "found"),
    [
        (False, "6.1.0", "", {"memory", "pids"}, {"memory": "missing"}),
        (True, "6.1.0", "", {"memory", "pids"}, {"memory": "missing", "pids": "wrong"}),
        (False, "5.10.2", "", {"memory", "pids"}, {"memory": "missing", "pids": "wrong"}),
        (True, "6.1.0", "hosting: systemd", {"memory", "pids", "cpu"}, {}),
        (True, "6.1.0", "hosting: systemd", {"pids", "cpu"}, {"memory": "missing", "pids": "wrong"}),
    ],
)
def test_limits_of_a_profile_that_do_not_hold_here_are_told(
    paths: Paths, root: bool, release: str, hosting: str, controllers: set[str], found: dict[str, str]
) -> None:
    paths.muster_yaml.write_text("sandboxes: {small: {memory: 300 MB, pids: 50}, web: {routes: [docs.python.org]}}\n")
    paths.roster_yaml.write_text(
        "agents:\n- {name: a, role: orchestrator}\n- {name: b, sandbox: small}\n".replace(
            "small}", f"small, {hosting}}}" if hosting else "small}"
        )
    )
    checked = loader.check(paths)
    assert checked.roster is not None
    told = machine.limits_of_profiles(checked, root=root, release=release, controllers=frozenset(controllers))
    findings = {each.name.removeprefix("sandboxes.small."): each for each in told}
    assert {name: each.state for name, each in findings.items()} == found
    assert all("hosting: systemd" in each.way for each in findings.values())


def test_config_check_tells_limits_that_do_not_hold_here(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths.muster_yaml.write_text("sandboxes: {small: {pids: 50}}\n")
    monkeypatch.setenv("MUSTER_HOME", str(paths.home))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    config_check.main([], standalone_mode=False)
    assert "warning: muster.yaml: sandboxes.small.pids: does not hold here." in capsys.readouterr().err


def test_a_bubblewrap_that_bounds_no_files_in_memory_is_told(tmp_path: Path) -> None:
    program(tmp_path, "older", "echo usage: bwrap --tmpfs DEST")
    program(tmp_path, "newer", "echo '    --size BYTES'")
    assert not command_wrapper.sizes_tmpfs(str(tmp_path / "older"))
    assert command_wrapper.sizes_tmpfs(str(tmp_path / "newer"))
    finding = machine.bubblewrap(Availability(True), sizes_tmpfs=False)
    assert (finding.state, "/tmp" in finding.costs, "0.8" in finding.way) == ("missing", True, True)


def test_an_old_python() -> None:
    assert machine.python((3, 10, 2)).state == "wrong"
    assert machine.python((3, 13, 0)).state == "ok"


def test_a_roster_below_the_floor_costs_the_roster_alone(paths: Paths) -> None:
    paths.muster_yaml.write_text("timezone: UTC\n")
    paths.roster_yaml.write_text("agents: [{name: a}]\n")
    finding = named(doctor.examine(paths, {}, which=nothing), "configuration")
    assert (finding.state, "no agent has the role orchestrator" in finding.found) == ("wrong", True)
    assert "does not start" not in finding.costs
    assert "not applied" in finding.costs


def test_a_broken_configuration(paths: Paths) -> None:
    paths.muster_yaml.write_text("timzone: UTC\n")
    findings = doctor.examine(paths, {}, which=nothing)
    finding = named(findings, "configuration")
    assert finding.state == "wrong"
    assert "muster.yaml:1:1: timzone" in finding.found
    assert doctor.exit_status(findings) == 1
    assert "must be fixed" in doctor.text(findings)


def test_secrets_are_looked_for_and_not_shown(paths: Paths, reachable: Path) -> None:
    for folder in (reachable, paths.config):
        (folder / "open").write_text("hunter2")
        (folder / "open").chmod(0o644)
    paths.muster_yaml.write_text(
        "accounts:\n"
        "  a: {provider: openai, credential: env:HAVE}\n"
        "  b: {provider: openai, credential: env:HAVE_NOT}\n"
        f"  c: {{provider: openai, credential: file:{reachable}/open}}\n"
        "  closed: {provider: openai, credential: file:open}\n"
        "  d: {provider: openai}\n"
    )
    paths.roster_yaml.write_text("agents:\n  - name: x\n    env: {TOKEN: file:nowhere}\n")
    findings = doctor.examine(paths, {"HAVE": "hunter2"}, which=nothing)

    states = {finding.name: finding.state for finding in findings}
    assert states["accounts.a.credential"] == "ok"
    assert states["accounts.b.credential"] == "wrong"
    assert "can be read by every user" in named(findings, "accounts.c.credential").found
    assert states["accounts.closed.credential"] == "ok", "nobody else gets into its folder"
    assert "accounts.d.credential" not in states
    assert states["agents[x].env.TOKEN"] == "wrong"
    assert "hunter2" not in doctor.text(findings)


async def test_the_register_is_looked_into(paths: Paths) -> None:
    checked = loader.check(paths)
    assert "will be made" in installation.register(checked, paths).found
    paths.state.mkdir(mode=0o700)
    store = await Store.open(paths.register_url)
    await store.close()
    assert installation.register(checked, paths).found.endswith("register.db opens")

    file = paths.state / "register.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    assert "at revision 9999" in installation.register(checked, paths).found
    file.write_bytes(b"no database" * 1000)
    finding = installation.register(checked, paths)
    assert (finding.state, "backup" in finding.way) == ("wrong", True)


def test_a_register_on_a_server_is_looked_into(paths: Paths, postgres: Postgres, emptied_database: str) -> None:
    paths.config.mkdir(parents=True, exist_ok=True)

    def look(url: str) -> DoctorFinding:
        paths.muster_yaml.write_text(f"register: {{url: '{url}', password: 'env:DB'}}\n")
        return installation.register(loader.check(paths), paths, {"DB": "hunter2"})

    found = look(postgres.url(emptied_database))
    assert (found.state, found.way) == ("wrong", "Set fsync = on in postgresql.conf.")
    assert emptied_database in found.found
    missing = look(postgres.url("nowhere"))
    assert missing.state == "wrong"
    assert "does not exist" in missing.found
    away = look("postgresql://127.0.0.1:1/fleet")
    assert away.state == "wrong"
    assert "does not answer" in away.found
    paths.muster_yaml.write_text("register: {url: 'postgresql:///fleet', password: 'env:NOT_SET'}\n")
    unset = installation.register(loader.check(paths), paths, {})
    assert "NOT_SET is not set" in unset.found
    names = {finding.name: finding.state for finding in installation.secrets(loader.check(paths), {})}
    assert names == {"register.password": "wrong"}


def test_a_register_that_takes_any_password_is_wrong(paths: Paths, postgres: Postgres, emptied_database: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        port = found.getsockname()[1]
    postgres.stop()
    postgres.start(listen_addresses="127.0.0.1", port=str(port))
    try:
        url = f"postgresql://muster@127.0.0.1:{port}/{emptied_database}"
        paths.muster_yaml.write_text(f"register: {{url: '{url}'}}\n")
        finding = installation.register(loader.check(paths), paths, {})
    finally:
        postgres.stop()
        postgres.start()
    assert finding.state == "wrong"
    assert "takes any password" in finding.found
    assert "pg_hba.conf" in finding.way


def test_sockets_and_disk(paths: Paths) -> None:
    assert "will be made" in installation.sockets(paths).found
    paths.prepare()
    assert installation.sockets(paths).state == "ok"
    assert list(paths.sockets.iterdir()) == []
    paths.sockets.rmdir()
    paths.sockets.write_text("")
    assert installation.sockets(paths).state == "wrong"
    assert installation.disk(paths).state in ("ok", "wrong")
    assert installation.disk(paths, free=10_000).state == "wrong"
    assert installation.disk(paths, free=10**12).state == "ok"


def test_who_runs(paths: Paths) -> None:
    paths.prepare()
    assert installation.running(paths).found == "not running"
    with only_one(paths.lock):
        assert f"process {os.getpid()}" in installation.running(paths).found


@contextmanager
def serving(body: bytes, *, date: float | None = None) -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            if date is not None:
                self.send_header("Date", email.utils.formatdate(date, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_pane_of_tmux_is_looked_for_where_one_is_configured(paths: Paths) -> None:
    assert not [finding for finding in doctor.examine(paths, {}, which=nothing) if "connector" in finding.name]
    paths.muster_yaml.write_text("connectors: {tmux: {}}\n")
    lacking = named(doctor.examine(paths, {}, which=nothing), "connector tmux")
    assert (lacking.state, "Install the package tmux" in lacking.found) == ("wrong", True)
    (paths.config / "file").write_text("")
    paths.muster_yaml.write_text(f"connectors: {{tmux: {{socket: {paths.config}/file}}}}\n")
    checked = loader.check(paths)
    (wrong,) = tmux.examine(checked, shutil.which)
    assert (wrong.state, "is no socket" in wrong.found) == ("wrong", True)
    paths.muster_yaml.write_text(f"connectors: {{tmux: {{socket: {paths.config}/none, session: work}}}}\n")
    (well,) = tmux.examine(loader.check(paths), shutil.which)
    assert (well.state, "in the session work" in well.found) == ("ok", True)


def test_a_homeserver_that_answers_shows_our_clock(paths: Paths) -> None:
    with serving(b'{"versions": ["r0.6.1", "v1.11"]}', date=1_000_000.0) as address:
        paths.muster_yaml.write_text(
            f"connectors:\n  matrix:\n    homeserver: {address}\n    user: '@m:x'\n    access_token: env:T\n"
        )
        findings = doctor.examine(paths, {"T": "x"}, which=nothing, clock=lambda: 1_000_500.0)
    assert "Matrix v1.11" in named(findings, "connector matrix").found
    clock = named(findings, "clock")
    assert (clock.state, clock.found) == ("wrong", f"500 s ahead of {address}")
    assert network.clock_against(address, -20).state == "ok"


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"versions": []}', b"[1]"])
def test_something_else_that_answers(body: bytes) -> None:
    with serving(body) as address:
        finding, skew = network.homeserver("matrix", address)
    assert (finding.state, skew) == ("wrong", None)
    assert "not as a Matrix homeserver does" in finding.found


def test_a_homeserver_that_does_not_answer() -> None:
    finding, skew = network.homeserver("matrix", "http://127.0.0.1:1")
    assert (finding.state, skew) == ("wrong", None)
    assert "does not answer" in finding.found


@pytest.mark.slow
def test_the_command_prints_for_people_and_for_programs(paths: Paths) -> None:
    environ = {**os.environ, "MUSTER_HOME": str(paths.config)}
    command = [sys.executable, "-m", "bot", "doctor"]
    people = subprocess.run(command, env=environ, capture_output=True, check=False, timeout=60)
    programs = subprocess.run([*command, "--json"], env=environ, capture_output=True, check=False, timeout=60)
    assert people.returncode == programs.returncode == 0
    assert "Muster can run here." in people.stdout.decode()
    assert {"name", "state", "found", "costs", "way"} == set(json.loads(programs.stdout)[0])


def test_a_subscription_with_an_api_key_is_told_before_its_windows_are_missed(paths: Paths) -> None:
    account = "{provider: anthropic, kind: subscription, credential: 'env:KEY'}"
    paths.muster_yaml.write_text(f"accounts:\n  main: {account}\n")
    checked = loader.check(paths)
    (finding,) = installation.subscriptions(checked, {"KEY": "sk-ant-api03-not-a-real-one"})
    assert (finding.name, finding.state) == ("accounts.main", "wrong")
    assert "reports no windows of a subscription" in (finding.costs or "")
    assert "not-a-real-one" not in str(finding)
    assert list(installation.subscriptions(checked, {"KEY": "sk-ant-oat01-not-a-real-one"})) == []
    assert list(installation.subscriptions(checked, {})) == [], "that it is not set is said of the secret"
