from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

import pytest

from core import durable_files, unix_sockets


def test_what_is_written_is_for_its_owner_alone_whatever_was_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    left = tmp_path / "settings.json.new"
    left.write_text("half of")
    left.chmod(0o644)
    durable_files.write(path, "one")
    durable_files.write(path, "two")
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    durable_files.write(path, "one")
    (tmp_path / "settings.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        durable_files.write(path, "two")
    assert path.read_text() == "one"


@pytest.mark.parametrize("sync", [False, True])
def test_what_does_not_fit_is_not_appended_in_part(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "lines"
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    durable_files.append(number, b"one\n", size=0, sync=sync)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            durable_files.append(number, b"two\n", size=4, sync=sync)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    durable_files.append(number, b"three\n", size=4, sync=sync)
    os.close(number)
    assert path.read_bytes() == b"one\nthree\n"


def test_a_socket_takes_the_place_of_one_that_was_left(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    unix_sockets.listen(path).close()
    with unix_sockets.listen(path) as listening:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert listening.getsockname() == str(path)
