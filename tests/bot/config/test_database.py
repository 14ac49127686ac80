"""`muster register copy` moves a fleet between databases, and never under the feet of one that runs."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from bot.commands import sections
from bot.config.instance_lock import only_one
from bot.config.paths import Paths
from bot.interfaces.cli.main import run
from core.crash_points import declare
from database.engine.store import Store
from database.queries.chat import operator_permissions
from database.queries.chat.operator_permissions import OperatorRow
from tests.postgres import Postgres

STEP = declare("test.registers")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path / "home"))
    made = Paths.of(os.environ)
    made.prepare()
    return made


@pytest.fixture
def own(paths: Paths) -> str:
    """The installation's own register, with two rows."""

    async def fill() -> None:
        store = await Store.open(paths.register_url)
        async with store.write(STEP) as tx:
            for name in ("ana", "ben"):
                await operator_permissions.put(
                    tx, OperatorRow(identity=f"x:{name}", permission="viewer", set_by="x", set_at=1.0)
                )
        await store.close()

    asyncio.run(fill())
    return paths.register_url


def copy(*words: str) -> int:
    return run(sections.load(), ["register", "copy", *words])


def people(url: str) -> list[str]:
    async def read() -> list[str]:
        store = await Store.open(url)
        async with store.read() as tx:
            found = [row.identity for row in await operator_permissions.every(tx)]
        await store.close()
        return found

    return asyncio.run(read())


def test_a_fleet_moves_to_a_server(
    own: str, postgres: Postgres, emptied_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = postgres.url(emptied_database)
    assert copy(own, server, "--json") == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert (answer["from"], answer["to"], answer["rows"]) == (own, server, 2)
    (moved,) = [table for table in answer["tables"] if table["rows"]]
    assert (moved["name"], len(moved["checksum"])) == ("operators", 64)
    assert "operators: 2 of 2" in printed.err
    assert people(server) == ["x:ana", "x:ben"]

    assert copy(own, server) == 1
    assert "is not empty" in capsys.readouterr().err


def test_what_is_next_is_said(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert copy(own, other) == 0
    assert f"register.url: {other}" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["from", "to"])
def test_muster_must_not_run_on_either(
    paths: Paths, own: str, tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with only_one(paths.lock):
        assert copy(*((own, other) if way == "from" else (other, own))) == 1
    assert f"running here already (process {os.getpid()} on" in capsys.readouterr().err
    assert not (tmp_path / "other.db").exists()


def test_registers_of_other_installations_are_copied_while_muster_runs_here(
    paths: Paths, own: str, tmp_path: Path
) -> None:
    first, second = (f"sqlite:///{tmp_path / name}" for name in ("first.db", "second.db"))
    assert copy(own, first) == 0
    with only_one(paths.lock):
        assert copy(first, second) == 0
    assert people(second) == people(own)


def test_a_password_is_referred_to_and_never_given(
    paths: Paths, own: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    assert copy(own, "postgresql://ana@localhost/fleet", "--to-password", "hunter2") == 1
    said = capsys.readouterr().err
    assert "Write env:NAME" in said
    assert "hunter2" not in said
    assert copy(own, "postgresql://ana:hunter2@localhost/fleet") == 1
    assert "hunter2" not in capsys.readouterr().err
    assert copy(own, "postgresql://ana@localhost/fleet", "--to-password", "env:NOT_SET") == 1
    assert "NOT_SET is not set" in capsys.readouterr().err


def test_this_installations_own_password_is_known(paths: Paths, own: str, capsys: pytest.CaptureFixture[str]) -> None:
    server = "postgresql://ana@localhost/fleet"
    paths.muster_yaml.write_text(f"register: {{url: '{server}', password: 'env:NOT_SET_EITHER'}}\n")
    assert copy(own, server) == 1
    assert "NOT_SET_EITHER is not set" in capsys.readouterr().err
