"""`muster egress` and `muster estop`: what works without the orchestrator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bot.commands import sections
from bot.doors.cli import DONE, FAILED, NOT_RUNNING, run
from bot.paths import Paths
from tests.whole.installation import end_egress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    assert (paths.state / "estop").exists()
    said = capsys.readouterr()
    assert "Everything is stopped" in said.out
    assert not said.err, "no egress runs that would have to answer"
    assert muster("estop") == DONE
    assert muster("estop", "--clear") == DONE
    assert not (paths.state / "estop").exists()
    assert muster("estop", "--clear") == DONE
    assert "There was no emergency stop." in capsys.readouterr().out


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
    assert muster("estop", "--clear") == DONE
    assert muster("egress", "stop") == DONE
    assert muster("egress", "status") == FAILED


def test_down_with_all_ends_an_egress_that_is_left(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert muster("egress", "--detach") == DONE
    assert muster("down", "--all") == DONE
    assert "its egress was, and is stopped" in capsys.readouterr().out
    assert muster("down", "--all") == NOT_RUNNING


def test_restore_takes_a_backup_or_an_agent(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert muster("restore", "coder0") == NOT_RUNNING, "an agent's way out is the orchestrator's to open"
    assert muster("restore", "./coder0") == FAILED
    assert "coder0" in capsys.readouterr().err
