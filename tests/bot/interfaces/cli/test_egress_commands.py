"""`muster egress` and `muster estop`: what works without the orchestrator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from bot.auth.owner import owner_identity
from bot.commands import sections
from bot.config.paths import Paths
from bot.egress_client.process import pid_of, places
from bot.interfaces.cli.main import run
from bot.interfaces.cli.output import DONE, FAILED, NOT_RUNNING, WRONG_USAGE
from bot.text.errors import UserError
from egress.daemon.control_client import EgressControlClient
from egress.errors import EgressRefused
from egress.settings import AgentRegistration, EgressSettings
from tests.system.installation import end_egress


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path))
    made = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    made.prepare()
    yield made
    end_egress(made)


def muster(*words: str) -> int:
    return run(sections.load(), list(words))


def test_the_emergency_stop_needs_nobody(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert muster("estop") == DONE
    assert (paths.state / "estop").read_text().startswith(f"{owner_identity()} ")
    said = capsys.readouterr()
    assert "Everything is stopped" in said.out
    assert not said.err, "no egress runs that would have to answer"
    assert muster("estop") == DONE
    assert muster("estop", "--clear") != DONE
    assert (paths.state / "estop").exists()
    assert muster("estop", "--clear", "--yes") == DONE
    assert not (paths.state / "estop").exists()
    assert muster("estop", "--clear", "--yes") == DONE
    assert "There was no emergency stop." in capsys.readouterr().out


def test_the_emergency_stop_reaches_an_egress_where_its_file_cannot_be_written(
    paths: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UserError("no more files here.")

    monkeypatch.setattr("bot.egress_client.emergency_stop.pull", fail)
    assert muster("estop") == FAILED
    assert "no more files here." in capsys.readouterr().err, "nobody knows of it"
    assert muster("egress", "--detach") == DONE
    assert muster("estop") == DONE
    assert (paths.state / "estop").exists(), "the egress wrote it"


def test_an_egress_is_started_looked_at_stopped_for_all_and_ended(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert muster("egress", "status") == FAILED
    capsys.readouterr()
    assert muster("egress", "--detach") == DONE
    assert capsys.readouterr().out.startswith("The egress runs in the background")
    assert muster("egress", "--detach") == DONE
    assert "runs already" in capsys.readouterr().out
    assert muster("egress") == FAILED
    assert "runs here already" in capsys.readouterr().err
    assert muster("estop") == DONE
    assert "did not answer" not in capsys.readouterr().err
    assert muster("egress", "status", "--json") == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["running"] is True
    assert found["estop"] is True
    assert found["status"]["estop"] is True
    assert datetime.fromisoformat(found["status"]["since"]).tzinfo is not None
    assert muster("estop", "--clear", "--yes") == DONE
    assert "The emergency stop is over." in capsys.readouterr().out
    assert not (paths.state / "estop").exists()
    assert muster("estop", "--clear", "--yes") == DONE
    assert "There was no emergency stop." in capsys.readouterr().out
    with contextlib.closing(sqlite3.connect(places(paths).ledger)) as ledger:
        by = ledger.execute("SELECT action, by FROM actions WHERE action LIKE 'estop%'").fetchall()
    assert set(by) == {("estop", owner_identity()), ("estop-clear", owner_identity())}, "the audit copies this"
    assert muster("egress", "stop") == DONE
    assert muster("egress", "status") == FAILED


def test_one_that_cannot_write_its_ledger_is_shown_to_let_nothing_out(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert muster("egress", "--detach") == DONE
    asyncio.run(_serving(paths, "coder0"))
    capsys.readouterr()
    with contextlib.closing(sqlite3.connect(places(paths).ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(EgressRefused, match="locked"):
            asyncio.run(_serving(paths, "coder1"))
        assert muster("egress", "status") == FAILED
        said = capsys.readouterr().out
        assert "The egress runs" in said
        assert "Nothing is let out: " in said
        assert "locked" in said
        assert muster("egress", "status", "--json") == FAILED
        assert "locked" in json.loads(capsys.readouterr().out)["status"]["unwritable"]


def test_one_that_hangs_is_shown_to_hang(
    paths: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert muster("egress", "--detach") == DONE
    pid = pid_of(paths)
    assert pid is not None
    capsys.readouterr()
    monkeypatch.setattr(EgressControlClient.status, "__kwdefaults__", {"timeout_s": 0.2})
    os.kill(pid, signal.SIGSTOP)
    try:
        assert muster("egress", "status") == FAILED
        assert f"(process {pid}) does not answer" in capsys.readouterr().out
        assert muster("egress", "status", "--json") == FAILED
        found = json.loads(capsys.readouterr().out)
        assert (found["running"], found["silent"], found["status"]) == (True, True, None)
    finally:
        os.kill(pid, signal.SIGCONT)


async def _serving(paths: Paths, name: str) -> None:
    async with EgressControlClient(places(paths).control) as client:
        await client.settings(EgressSettings(host="here"))
        await client.register(AgentRegistration(agent=name, launch_id="l1", profile="none", listener="port"))


async def _denied(paths: Paths) -> list[tuple[str, str]]:
    async with EgressControlClient(places(paths).control) as client:
        return [(each["agent"], each["by"]) for each in (await client.standing())["denials"]]


def test_an_agent_is_cut_off_and_restored_where_muster_does_not_run(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert muster("cutoff", "coder0") == NOT_RUNNING
    assert muster("egress", "cutoff", "coder0") == FAILED
    assert "`muster estop` stops all" in capsys.readouterr().err
    assert muster("egress", "--detach") == DONE
    asyncio.run(_serving(paths, "coder0"))
    capsys.readouterr()
    assert muster("egress", "cutoff", "codre0") == FAILED
    assert "Did you mean 'coder0'? It serves coder0. Nothing was changed." in capsys.readouterr().err
    assert muster("cutoff", "coder0") == DONE
    said = capsys.readouterr()
    assert "Muster is not running" in said.err
    assert "Nothing of coder0 leaves any more." in said.out
    assert "audit has it once" in said.out
    assert asyncio.run(_denied(paths)) == [("coder0", owner_identity())]
    assert muster("restore", "coder0") == DONE
    assert "coder0 may go out again." in capsys.readouterr().out
    assert asyncio.run(_denied(paths)) == []
    assert muster("egress", "restore", "coder0") == DONE
    assert "was not cut off" in capsys.readouterr().out
    assert muster("egress", "cutoff", "coder0") == DONE
    assert muster("egress", "stop") == DONE
    assert muster("egress", "--detach") == DONE
    assert asyncio.run(_denied(paths)) == [("coder0", owner_identity())], "it is durable"


@pytest.mark.parametrize("words", [["egress", "cutoff", "coder0"], ["egress", "restore", "coder0"], ["estop"]])
def test_what_stops_agents_at_once_imports_nothing_heavy(paths: Paths, words: list[str]) -> None:
    """Each of these takes tens to hundreds of milliseconds of CPU, during which an agent goes on spending."""
    assert muster("egress", "--detach") == DONE
    asyncio.run(_serving(paths, "coder0"))
    heavy = ("aiohttp", "asyncio", "http", "nio", "pydantic", "rich", "sqlalchemy", "structlog", "yaml")
    code = (
        "import atexit, sys; from bot.interfaces.cli import main as cli\n"
        f"atexit.register(lambda: print(sorted({{*{heavy}, 'bot.agents.commands'}} & sys.modules.keys())))\n"
        f"cli.main({words})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (DONE, "")
    assert done.stdout.splitlines()[-1] == "[]"


def test_down_with_all_ends_an_egress_that_is_left(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert muster("egress", "--detach") == DONE
    assert muster("down", "--all") == DONE
    assert "its egress was, and is stopped" in capsys.readouterr().out
    assert muster("down", "--all") == NOT_RUNNING


def test_restore_is_about_an_agent_and_names_what_restores_a_backup(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert muster("restore", "coder0") == NOT_RUNNING, "an agent's way out is the orchestrator's to open"
    capsys.readouterr()
    assert muster("restore", "./backups/muster.tar.gz") == WRONG_USAGE
    assert "`muster backup restore ./backups/muster.tar.gz` restores a backup" in capsys.readouterr().err
    assert muster("backup", "restore", "./coder0") == FAILED
    assert "coder0" in capsys.readouterr().err


def test_quiet_prints_errors_alone(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert muster("-q", "estop") == DONE
    assert muster("-q", "estop", "--clear", "--yes") == DONE
    assert capsys.readouterr() == ("", "")
    assert muster("--quiet", "estop", "--clear") == FAILED
    assert "Say --yes" in capsys.readouterr().err
    assert muster("-q", "egress", "status") == FAILED
    assert "does not run" in capsys.readouterr().out, "it was asked for"
    assert muster("estop", "--clear", "--yes") == DONE
    assert "no emergency stop" in capsys.readouterr().out, "the next command is not silent"
