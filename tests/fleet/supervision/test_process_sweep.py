from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fleet.supervision import process_sweep

BREEDER = """
import os, time
print("ready", flush=True)
while True:
    os.fork() or os.setsid()
    time.sleep(0.05)
"""


@pytest.fixture
def marker() -> Iterator[str]:
    marker = secrets.token_hex(8)
    yield marker
    process_sweep.sweep(marker)


@contextmanager
def start(marker: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {"PATH": os.environ["PATH"], process_sweep.VARIABLE: marker}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process_sweep.sweep(marker)


def line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def test_nothing_is_left_of_what_left_its_group_and_its_parent(marker: str) -> None:
    with start(marker, "sh", "-c", "setsid sleep 600 & setsid setsid sleep 600 & echo ready; wait") as process:
        assert line(process) == "ready"
        while len(process_sweep.survivors(marker)) != 3:
            pass
        # Three, and the second setsid, if it had not become its sleep when the sweep began.
        assert process_sweep.sweep(marker) >= 3
        assert process_sweep.survivors(marker) == []
        assert process.wait() == -9


def test_processes_that_keep_forking_are_met_in_the_end(marker: str) -> None:
    with start(marker, sys.executable, "-S", "-c", BREEDER) as process:
        assert line(process) == "ready"
        process_sweep.sweep(marker)
        assert process_sweep.survivors(marker) == []


def test_other_processes_are_left_alone(marker: str) -> None:
    other = secrets.token_hex(8)
    with start(other, "sleep", "600") as bystander:
        assert process_sweep.sweep(marker) == 0
        assert process_sweep.sweep(marker[:4]) == 0
        assert process_sweep.survivors("") == []
        assert bystander.poll() is None
        assert process_sweep.sweep(other) == 1


def below(pid: int, name: str, state: str) -> process_sweep.ProcessEntry:
    """The process of that name and state below `pid`, once there is one."""
    while True:
        for process in process_sweep.descendants(pid):
            if process.is_called([name]) and process.state in state:
                return process


def test_descendants_are_found_with_their_state_and_name(marker: str) -> None:
    with start(marker, "sh", "-c", "sleep 600 & wait") as process:
        child = below(process.pid, "sleep", "S")
        os.kill(child.pid, signal.SIGSTOP)
        stopped = below(process.pid, "sleep", "T")
        assert stopped.pid == child.pid
        assert not stopped.is_called(["claude"])
        assert [process.pid for process in process_sweep.children(process.pid)] == [child.pid]


def test_what_stripped_its_marker_is_ended_by_its_place_in_the_tree(marker: str) -> None:
    with start(marker, "sh", "-c", "env -i sleep 600 & wait") as process:
        below(process.pid, "sleep", "S")
        assert process_sweep.sweep("", below=process.pid) == 1
        process.wait()
