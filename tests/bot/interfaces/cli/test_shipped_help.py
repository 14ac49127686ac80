"""`muster --help` comes from a file, and says what click would say."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from bot.interfaces.cli import shipped_help

ENTRY = (
    "import sys; from bot.interfaces.cli.entry import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
)
BY_CLICK = "from bot.interfaces.cli.main import main; main()"


def _run(code: str, *words: str, columns: int | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environ |= {} if columns is None else {"COLUMNS": str(columns)}
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, env=environ)


@pytest.mark.parametrize("width", shipped_help.WIDTHS)
def test_a_page_says_what_click_says(width: int) -> None:
    page = Path(shipped_help.file_of(width)).read_text(encoding="ascii")
    # The order of the commands is that of their imports, which other tests can change in this process.
    code = f"import sys; from docs import reference_pages; sys.stdout.write(reference_pages.shell_help({width}))"
    assert page == _run(code).stdout, "run `python -m docs.reference_pages`"


@pytest.mark.parametrize(("columns", "by_click"), [(None, False), (80, False), (90, True), (100, False), (200, False)])
def test_every_width_shows_the_page_for_it(columns: int | None, by_click: bool) -> None:
    shown = _run(ENTRY, "--help", columns=columns)
    assert shown.stdout == _run(BY_CLICK, "--help", columns=columns).stdout
    assert ("click" in shown.stderr.splitlines()[-1].split()) == by_click


@pytest.mark.parametrize("words", [[], ["-h"], ["help"]])
def test_every_way_to_ask_shows_the_same(words: list[str]) -> None:
    shown = _run(ENTRY, *words)
    assert shown.stdout == _run(BY_CLICK, *words).stdout
    loaded = set(shown.stderr.splitlines()[-1].split())
    assert not {"click", "pathlib", "inspect", "dataclasses", "shutil", "bot.commands.registry"} & loaded


def test_a_terminal_tells_its_width() -> None:
    """Without COLUMNS, as in most terminals."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 132, 0, 0))
        environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        with subprocess.Popen(
            [sys.executable, "-c", ENTRY], stdout=theirs, stderr=subprocess.DEVNULL, env=environ
        ) as run:
            os.close(theirs)
            theirs = -1
            shown = b""
            try:
                while piece := os.read(ours, 2**16):
                    shown += piece
            except OSError:
                pass  # Linux: the other side is closed
            assert run.wait(30) == 0
        wide = Path(shipped_help.file_of(100)).read_text(encoding="ascii")
        assert shown.decode().replace("\r\n", "\n") == wide
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def test_what_asks_for_something_else_gets_no_page() -> None:
    assert shipped_help.page(["help", "ps"], {}) is None
    assert shipped_help.page(["-q"], {}) is None
    assert shipped_help.page([], {"_MUSTER_COMPLETE": "bash_complete", "COLUMNS": "80"}) is None, "a shell completes"


def test_a_missing_page_is_left_to_click(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shipped_help, "file_of", lambda width: str(tmp_path / "none"))
    assert shipped_help.page(["--help"], {"COLUMNS": "80"}) is None


def test_the_reader_of_the_page_may_go() -> None:
    read, write = os.pipe()
    os.close(read)
    code = "from bot.interfaces.cli.entry import main; main()"
    run = subprocess.run([sys.executable, "-c", code, "--help"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (run.returncode, run.stderr) == (1, b"")
