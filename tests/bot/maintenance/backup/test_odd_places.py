"""A restore where the register or the state folder is not in its usual place."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.config.paths import Paths
from bot.maintenance.backup.restore import restore
from bot.maintenance.backup.service import backup
from bot.text.errors import UserError
from tests.bot.maintenance.installation import hidden, people, put, standing


def _there_and_back(paths: Paths, register: Path) -> None:
    """A backup and a restore, between which somebody is added, with the register's file at `register`."""
    url = f"sqlite:///{register}"
    paths.muster_yaml.write_text(f"register:\n  url: {url}\n")
    register.parent.mkdir(exist_ok=True)
    (register.parent / "beside").write_text("then")
    asyncio.run(put(url, "ana"))
    made = asyncio.run(backup(paths, {}, now=1.0))
    asyncio.run(put(url, "eve"))
    (register.parent / "beside").write_text("now")
    restored = asyncio.run(restore(paths, {}, made.written.file, now=2.0))
    assert asyncio.run(people(url)) == ["x:ana"]
    kept = [found for folder in restored.kept for found in Path(folder).rglob(register.name)]
    assert [asyncio.run(people(f"sqlite:///{file}")) for file in kept] == [["x:ana", "x:eve"]]
    assert hidden(paths) == []


def test_a_register_that_somebody_else_has_open_is_not_moved_away(paths: Paths) -> None:
    made = asyncio.run(backup(paths, {}, now=1.0))
    file = paths.state / "register.db"
    opens = f"import sqlite3; c = sqlite3.connect({str(file)!r}); c.execute('SELECT * FROM outbox'); print(''); input()"
    with subprocess.Popen([sys.executable, "-u", "-c", opens], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        before = standing(paths)
        with pytest.raises(UserError, match="is open in another process"):
            asyncio.run(restore(paths, {}, made.written.file, now=2.0))
        assert standing(paths) == before
        assert hidden(paths) == []
        other.communicate(b"\n")
    asyncio.run(restore(paths, {}, made.written.file, now=2.0))


#: The long way round: places that were right before, too.
_MORE = [
    pytest.param(place, marks=pytest.mark.soak)
    for place in ("state/own.db", "state/backups/fleet.db", "fleet.db", "../fleet.db")
]


@pytest.mark.parametrize("place", ["state/own/fleet.db", *_MORE])
def test_the_register_is_somewhere_else(paths: Paths, place: str) -> None:
    assert paths.home is not None
    _there_and_back(paths, (paths.home / place).resolve())


@pytest.mark.parametrize("place", ["own.db", pytest.param("own/fleet.db", marks=pytest.mark.soak)])
def test_the_register_is_named_by_another_way_than_the_state(paths: Paths, tmp_path: Path, place: str) -> None:
    os.rename(paths.state, tmp_path / "disk")
    paths.state.symlink_to(tmp_path / "disk")
    _there_and_back(paths, tmp_path / "disk" / place)
