"""The demo shows a fleet as one should be."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from pathlib import Path

import pexpect
import pytest

from bot.app import demo, demo_story
from bot.config import loader
from bot.config.paths import Paths
from fleet.supervision import host_lifecycle, host_lock


def test_the_demo_begins_with_a_fleet_that_stands(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    paths = Paths.of({"MUSTER_HOME": str(tmp_path)})
    paths.roster_yaml.write_text(demo.demo_roster(tmp_path / "greet"))
    paths.muster_yaml.write_text(demo_story.SETTINGS)
    for path in (paths.roster_yaml, paths.muster_yaml):
        path.chmod(0o600)
    found = loader.check(paths)
    assert found.problems == ()
    assert found.warnings == ()
    assert found.roster is not None
    core = {entry.name: entry.role for entry in found.roster.agents if entry.persistent}
    assert core == {"lead": "orchestrator", "polisher": "enhancer"}
    assert {entry.runtime for entry in found.roster.agents} == {"sim"}
    assert all(f"`{name}`, an {role}" in demo.HINT for name, role in core.items())
    assert all(task.agent in demo.HINT for task in demo_story.TASKS)


def test_each_task_changes_the_repository_as_it_says(tmp_path: Path) -> None:
    repository = tmp_path / "greet"
    assert demo_story.make_repository(repository)
    for task in demo_story.TASKS:
        git = "git -c user.name=Ana -c user.email=ana@muster.invalid commit"
        command = task.command.replace("git commit", git)
        assert os.system(f"cd '{repository}' && {{ {command}; }} >/dev/null") == 0, task.command
        assert demo_story.script().order(1, f"A task: {task.text}") == task.directives
    assert "Hello, $1." in (repository / "greet.sh").read_text()


@pytest.mark.slow
def test_its_agents_work_ask_and_end_with_the_terminal(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm", "NO_COLOR": "1"}
    environ.pop("MUSTER_HOME", None)
    paths = demo.demo_paths(environ)
    running = pexpect.spawn(
        sys.executable,
        ["-P", "-m", "bot", "up", "--demo"],
        env=environ,
        encoding="utf-8",
        timeout=90,
        dimensions=(40, 200),
    )
    try:
        running.expect(r"Task .{1,60} is done\. The README says")
        assert host_lifecycle.is_running(paths.agent_folder("coder0"))
        running.send("\x03")
        running.expect("Ctrl-C again")
        assert running.isalive()
        os.close(running.child_fd)  # as closing its window does
        running.wait()
    finally:
        assert running.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGKILL)
    for name in ("lead", "polisher", "coder0", "coder1"):
        assert not host_lifecycle.is_running(paths.agent_folder(name)), name


@pytest.mark.slow
def test_its_agents_end_with_a_demo_that_is_killed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    environ = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm", "NO_COLOR": "1"}
    environ.pop("MUSTER_HOME", None)
    paths = demo.demo_paths(environ)
    running = pexpect.spawn(
        sys.executable, ["-P", "-m", "bot", "up", "--demo"], env=environ, encoding="utf-8", timeout=90
    )
    names = ("lead", "coder0")
    try:
        running.expect("asks for permission")
        watched = [os.pidfd_open(host_lock.holder(paths.agent_folder(name)) or 0) for name in names]
    finally:
        assert running.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGKILL)
        running.wait()
    for name, descriptor in zip(names, watched, strict=True):
        ended, _, _ = select.select([descriptor], [], [], 30)  # readable once the process has ended
        os.close(descriptor)
        assert ended, name
        assert not host_lifecycle.is_running(paths.agent_folder(name)), name
