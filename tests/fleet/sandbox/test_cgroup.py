"""Bounds for a whole sandbox, on folders that look like control groups: the real ones have managers of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fleet.sandbox import cgroup

pytestmark = pytest.mark.root

HERE = "0::/user.slice/muster-agent-coder0.service\n"
UNIT = "/c/user.slice/muster-agent-coder0.service"


def marked(*folders: str) -> object:
    def mark(folder: str, name: str) -> bytes:
        if folder in folders and name == "user.delegate":
            return b"1"
        raise OSError

    return mark


@pytest.mark.parametrize(
    ("membership", "marks", "found"),
    [
        (HERE, (UNIT,), UNIT),
        # Its agent host was put aside at an earlier start.
        (HERE.strip() + "/muster-rest\n", (UNIT,), UNIT),
        # Somebody else's group, a group above that is delegated to somebody, the old hierarchies, and nonsense.
        (HERE, (), None),
        (HERE, ("/c/user.slice",), None),
        ("0::/user.slice/terminal.scope\n", ("/c/user.slice/terminal.scope",), None),
        ("0::/\n", ("/c",), None),
        ("12:memory:/x\n1:name=systemd:/x\n", ("/c/x",), None),
        ("0::/../x\n", ("/c/../x", "/x"), None),
        ("", ("/c",), None),
    ],
)
def test_only_a_group_that_was_delegated_to_the_agent_is_used(
    membership: str, marks: tuple[str, ...], found: str | None
) -> None:
    assert cgroup.delegated("/c", membership, marked(*marks)) == found  # type: ignore[arg-type]


def test_the_sandbox_gets_a_group_of_its_own_with_its_limits(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("41\n")
    (tmp_path / "sandbox-7").mkdir()
    cgroup.enter(str(tmp_path), 42, 2**30, 100)
    # What was in the group is put aside, for one with processes of its own shares out nothing.
    assert (tmp_path / "muster-rest" / "cgroup.procs").read_text() == "41"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids"
    group = tmp_path / "sandbox-42"
    assert {file.name: file.read_text() for file in group.iterdir()} == {
        "memory.max": str(2**30),
        "pids.max": "100",
        "cgroup.procs": "42",
    }
    # That of an agent that ended is taken away.
    assert not (tmp_path / "sandbox-7").exists()


def test_only_what_is_bounded_is_shared_out(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("")
    cgroup.enter(str(tmp_path), 42, None, 100)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+pids"
    assert sorted(file.name for file in (tmp_path / "sandbox-42").iterdir()) == ["cgroup.procs", "pids.max"]


def test_without_such_a_group_the_sandbox_is_started_all_the_same() -> None:
    # Not from the group in which the tests happen to run.
    program = (
        "import sys; from fleet.sandbox import cgroup; cgroup.delegated = lambda *_: None; cgroup.main(sys.argv[1:])"
    )
    argv = (
        sys.executable,
        "-P",
        "-c",
        program,
        "memory=1000000000",
        "pids=100",
        "--",
        "/bin/sh",
        "-c",
        "echo here; exit 5",
    )
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("here\n", 5)
