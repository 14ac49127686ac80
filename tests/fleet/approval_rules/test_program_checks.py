"""What is known of sed, awk and printf holds in the real programs: they write nothing and run nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.approval_rules import command_table, program_checks
from fleet.approval_rules.command_options import Refused

_REAL = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)
_TEXT = "def main():\n    a b c\ne touch made\nw made\nsh\n1 2 3\n"


class Folder:
    """A folder with one file, in which a program runs with nothing on its PATH but stubs that leave a trace."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.work = root / "work"
        self.bin.mkdir()
        self.work.mkdir()
        (self.work / "x").write_text(_TEXT)
        for name in ("touch", "e", "w", "made"):
            (self.bin / name).write_text(f"#!/bin/sh\n: > {root}/ran\n")
            (self.bin / name).chmod(0o755)

    def run(self, *command: str) -> None:
        program = shutil.which(command[0])
        assert program is not None
        subprocess.run(
            [program, *command[1:]],
            cwd=self.work,
            env={"PATH": str(self.bin)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
        assert os.listdir(self.work) == ["x"], command
        assert (self.work / "x").read_text() == _TEXT, command
        assert not (self.root / "ran").exists(), command


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@_REAL
@given(script=st.from_regex(program_checks.SED_SCRIPT, fullmatch=True), quiet=st.booleans())
def test_sed_only_prints(folder: Folder, script: str, quiet: bool) -> None:
    words = ["sed", *(["-n"] if quiet else []), script, "x"]
    try:
        command_table.check(words)
    except Refused:
        # A script that begins with a dash is taken for an option.
        return
    folder.run(*words)


@_REAL
@given(program=st.from_regex(program_checks.AWK_PROGRAM, fullmatch=True))
def test_awk_only_prints(folder: Folder, program: str) -> None:
    if shutil.which("awk") is None:
        pytest.skip("awk is not installed")
    words = ["awk", program, "x"]
    command_table.check(words)
    folder.run(*words)


@_REAL
@given(
    words=st.lists(st.sampled_from(["%s", "a%s\\n", "%%", "%5s", "%d", "%q", "-v", "a[$(touch made)]", "%(%s)T", "%n"]))
)
def test_printf_evaluates_nothing(folder: Folder, words: list[str]) -> None:
    try:
        command_table.check(["printf", *words])
    except Refused:
        return
    quoted = " ".join("'" + word + "'" for word in words)
    for shell in ("bash", "dash"):
        if shutil.which(shell) is not None:
            folder.run(shell, "-c", f"printf {quoted}")


@pytest.mark.parametrize(
    "words",
    [
        ["sed", "1e touch made", "x"],
        ["sed", "w made", "x"],
        ["sed", "s/a/b/w made", "x"],
        ["sed", "s/.*/touch made/e", "x"],
        ["awk", 'BEGIN{system("touch made")}', "x"],
        ["awk", '{print > "made"}', "x"],
    ],
)
def test_the_folder_notices_what_they_could_do(folder: Folder, words: list[str]) -> None:
    with pytest.raises(AssertionError):
        folder.run(*words)
    with pytest.raises(Refused):
        command_table.check(words)
