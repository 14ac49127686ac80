"""What the shell prints of tables, and of a diff that an agent made."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bot.interfaces.cli.output import say

DIFF = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-one\x1b[2J\n+two\r\n same\n"
SAY = "import os, sys; from bot.interfaces.cli.output import say_diff; say_diff(sys.argv[1], os.environ)"


def printed(**environ: str) -> str:
    """What a terminal gets."""
    ours, terminal = os.openpty()
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    done = subprocess.Popen([sys.executable, "-c", SAY, DIFF], stdout=terminal, env={**inherited, **environ})
    os.close(terminal)
    try:
        assert done.wait(60) == 0
        return os.read(ours, 65536).decode().replace("\r\n", "\n")
    finally:
        os.close(ours)


def test_a_diff_is_colored_on_a_terminal_and_cannot_act_on_it() -> None:
    assert "\x1b[31m-one␛[2J\x1b[m\n\x1b[32m+two\x1b[m\n same\n" in printed(TERM="xterm")


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}])
def test_whoever_wants_no_colors_gets_none(environ: dict[str, str]) -> None:
    text = printed(**environ)
    assert "-one␛[2J\n+two\n same\n" in text
    assert "\x1b" not in text


def test_a_file_gets_plain_text() -> None:
    plain = subprocess.run([sys.executable, "-c", SAY, DIFF], capture_output=True, text=True, check=True).stdout
    assert plain == "\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-one␛[2J\n+two\n same\n"


def test_a_table_has_no_addresses_and_other_text_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    table = "| Issue | Title |\n| --- | --- |\n| [`a/b#1`](https://git.example.org/a/b/issues/1) | `x` |"
    say(f"{table}\n\nSee [`a/b#1`](https://git.example.org/a/b/issues/1).")
    assert capsys.readouterr().out == (
        "Issue    Title\n`a/b#1`  `x`\n\nSee [`a/b#1`](https://git.example.org/a/b/issues/1).\n"
    )
