from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from core import durable_files, unix_sockets

if TYPE_CHECKING:
    from pathlib import Path


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


def test_a_socket_takes_the_place_of_one_that_was_left(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    unix_sockets.listen(path).close()
    with unix_sockets.listen(path) as listening:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert listening.getsockname() == str(path)
