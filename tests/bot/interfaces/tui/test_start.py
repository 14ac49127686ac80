"""What a start of the dashboard loads, and what a start of everything else does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bot.commands import sections
from bot.interfaces.cli.main import run
from bot.interfaces.cli.output import WRONG_USAGE
from bot.interfaces.tui.start import listens
from core import unix_sockets

HEAVY = {"aiohttp", "asyncpg", "bot.app", "bot.dashboard", "nio", "plotext", "pydantic", "sqlalchemy", "structlog"}


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_dashboard_loads_nothing_of_the_orchestrator() -> None:
    imports = "from bot.config.paths import Paths; from bot.interfaces.tui.start import made"
    loaded = loaded_by(f"{imports}; made(Paths.of({{'HOME': '/tmp'}}))")
    assert "textual" in loaded
    assert loaded & HEAVY == set()


def test_nothing_else_loads_textual() -> None:
    for code in (
        "from bot.interfaces.cli.main import SHELL_COMMANDS; [SHELL_COMMANDS[name] for name in SHELL_COMMANDS]",
        "import bot.app.foreground",
    ):
        assert not {name for name in loaded_by(code) if name.startswith("textual")}


def test_without_a_terminal_it_names_what_prints_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path))
    assert run(sections.load(), ["dashboard"]) == WRONG_USAGE
    assert "The dashboard needs a terminal. `muster ps`" in capsys.readouterr().err


def test_a_socket_that_nobody_serves_is_no_gateway(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    assert not listens(path)
    with unix_sockets.listen(path) as listener:
        listener.listen()
        assert listens(path)
    assert path.exists()
    assert not listens(path)
