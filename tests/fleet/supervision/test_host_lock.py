from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.supervision import host_lifecycle, host_lock

HOLD = """
import sys, pathlib
from fleet.supervision import host_lock
host_lock.hold(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_one_holder_at_a_time_and_none_when_it_is_gone(tmp_path: Path) -> None:
    assert host_lock.holder(tmp_path) is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert host_lock.holder(tmp_path) == holder.pid
        with pytest.raises(host_lock.HostLockHeld):
            host_lock.hold(tmp_path)
        holder.kill()
        holder.wait()
    # Its number is still written there, and proves nothing.
    assert (tmp_path / host_lock.NAME).read_text().strip() == str(holder.pid)
    assert host_lock.holder(tmp_path) is None
    os.close(host_lock.hold(tmp_path))


def test_a_number_that_is_somebody_elses_by_now_is_nobodys_life(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (tmp_path / host_lock.NAME).write_text(f"{stranger.pid}\n")
        assert host_lifecycle.is_running(tmp_path) is False
        assert host_lifecycle.kill_now(tmp_path) == 0
        assert stranger.poll() is None
        stranger.kill()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / host_lock.NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        host_lock.hold(tmp_path)
    assert (tmp_path / "elsewhere").read_text() == "precious"
