"""What real shells run of a plain command is what was judged: the same programs, words and files, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.approval_rules.plain_command import PlainPart
from fleet.approval_rules.shell_command import parse
from tests.fleet.approval_rules.corpus import ALLOWED

#: Stands for every program: writes down its words, in a file of its own.
_STUB = """#!/bin/bash
printf '%s\\0' "${0##*/}" "$@" >"$WITNESS/$$-$SRANDOM"
"""
_PROGRAMS = ("alpha", "beta", "gamma")
_PLAIN_WORDS = (
    *(
        "x",
        "a.py",
        "-n",
        "--long=1",
        "HEAD~1",
        "HEAD^",
        "a,b",
        "a:b",
        "@x",
        "100%",
        "+1",
        "-",
        "--",
        "1",
        "2",
        "a=b",
        "!",
    ),
    *(
        "''",
        '""',
        "'a b'",
        '"a b"',
        "'a'\"b\"c",
        "a\\ b",
        "\\$x",
        "\\'",
        '\\"',
        "\\\\",
        "'$x'",
        '"\\$x"',
        '"\\\\"',
        "x2",
    ),
    *("'`alpha`'", '"\\`x\\`"', "'#'", "\\#", "'!'", '"a\\b"', '"\\n"', "'a\nb'", '"a\nb"', "'*'", "\\*", "'~'", "\\~"),
    *("'\\'", "';'", "\\;", "'|'", '"&&"', "'>'", "\\>x", "'('", "\\(", "2x", "\\-", "\\a", '"a\'b"', "'a\"b'", "-\\-"),
)
_HOSTILE_WORDS = (
    *("a\\", "x'", 'x"', "$x", "*", "~", "{a,b}", "#c", "a#b", "$(alpha)", "`alpha`", "!", "!!", "a!b", "=alpha"),
    *("a=~", "x=1", "$'a'", "[a]", "a{1", "}", "\u00e9", "<(alpha)", '"$(alpha)"', '"`alpha`"', '"a!b"', "a:~", "^a"),
)
_PLAIN_OPERATORS = (" | ", "|", " && ", "&&", " || ", "; ", ";", "\n", "\n\n", " |\n", "\t;\n", " &&\n\n")
_HOSTILE_OPERATORS = (" & ", " |& ", ";;", "&", "|||", "\\\n", "\r\n", "\n;", " #\n", "&&;", ";|")
_PLAIN_REDIRECTS = (
    *("", "", "", "", " > o1", ">o2", " >> o3", " 2> o4", "2>o5", " 2>&1", " > o6 2>&1", " > 'o 7'", " 2>o8 x", " >&2"),
    *(" > o1 > o2", " < /dev/null", "1>p2", " >&1", " >o3 <o3", " >\\o4", " x2>o9", " >\to5"),
)
_HOSTILE_REDIRECTS = (
    *(
        " &> o8",
        " >| o9",
        " 3> p1",
        " <<< x",
        " 2>&1x",
        " 12> p3",
        " >",
        " <> p4",
        " >&o5",
        " 2>&3",
        " <&0",
        " >(alpha)",
    ),
    *(" > $x", " > *", " {a}> p5", " 1>>&2", " 2>&-", "\\2>p6", "'2'>p7", " 02>p8", " >&12", " <<x\ny\nx"),
)
_PROGRAM_FORMS = (*_PROGRAMS, *_PROGRAMS, "'alpha'", "al'ph'a", "\\alpha", '"beta"', "g\\amma")
_HOSTILE_FORMS = ("time alpha", "x=1 alpha", "if", "! alpha", "(alpha)", "{ alpha; }", "=alpha", "alpha()", "$x", "-")


@st.composite
def _commands(draw: st.DrawFn) -> str:
    hostile = draw(st.sampled_from([False, False, False, True]))

    def piece(plain: tuple[str, ...], others: tuple[str, ...]) -> str:
        return draw(st.sampled_from(plain + others if hostile else plain))

    text = ""
    for number in range(draw(st.integers(1, 4))):
        text += piece(_PLAIN_OPERATORS, _HOSTILE_OPERATORS) if number else ""
        text += piece(_PROGRAM_FORMS, _HOSTILE_FORMS)
        for _ in range(draw(st.integers(0, 3))):
            text += draw(st.sampled_from([" ", " ", " ", "  ", "\t", ""])) + piece(_PLAIN_WORDS, _HOSTILE_WORDS)
        text += piece(_PLAIN_REDIRECTS, _HOSTILE_REDIRECTS)
    return text


class Shell:
    """One shell in an empty folder, whose programs are all stubs."""

    def __init__(self, program: str, root: Path) -> None:
        self._program = program
        self._root = root
        (root / "bin").mkdir()
        for name in _PROGRAMS:
            (root / "bin" / name).write_text(_STUB)
            (root / "bin" / name).chmod(0o755)

    def run(self, command: str) -> tuple[Counter[tuple[str, ...]], set[str]]:
        """Return the programs that ran with their words, and the files that were made."""
        folder, witness = self._root / "work", self._root / "witness"
        for path in (folder, witness):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        subprocess.run(
            [self._program, "-c", command],
            cwd=folder,
            env={"PATH": str(self._root / "bin"), "WITNESS": str(witness)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
        ran = Counter(tuple(os.fsdecode(path.read_bytes()).split("\0")[:-1]) for path in witness.iterdir())
        return ran, {path.name for path in folder.iterdir()}


@pytest.fixture(params=["bash", "dash", "zsh"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    program = shutil.which(request.param)
    if program is None and request.param != "zsh":
        pytest.skip(f"{request.param} is not installed")
    if program is None:
        pytest.skip("tried by hand")
    return Shell(program, tmp_path)


def _judged(parts: tuple[PlainPart, ...]) -> Counter[tuple[str, ...]]:
    return Counter(part.words for part in parts)


def _check(shell: Shell, command: str) -> bool:
    """Compare a plain command with what runs; False: it is not plain."""
    parts = parse(command).plain
    if parts is None:
        return False
    ran, made = shell.run(command)
    judged = _judged(parts)
    assert ran <= judged, command
    written = {redirect.path for part in parts for redirect in part.redirects if ">" in redirect.operator}
    assert made <= written, command
    if "||" not in command and all(part.words[0] in _PROGRAMS for part in parts):
        # Nothing of it depends on how another part ended: each part ran, with exactly these words.
        assert ran == judged, command
        assert made == written, command
    return True


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(command=_commands())
def test_shells_run_what_was_judged(shell: Shell, command: str) -> None:
    _check(shell, command)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=600)
@given(command=_commands())
def test_shells_run_what_was_judged_in_many_more_commands(shell: Shell, command: str) -> None:
    _check(shell, command)


def test_the_words_of_everyday_commands_are_those_that_shells_see(shell: Shell, tmp_path: Path) -> None:
    """The programs that an everyday command names are replaced; its words stay."""
    compared = 0
    for command in ALLOWED:
        text = command.replace("{workspace}", str(tmp_path))
        parts = parse(text).plain
        assert parts is not None, text
        if len(parts) != 1 or parts[0].redirects or text.startswith("'"):
            continue
        compared += _check(shell, "alpha" + text.removeprefix(parts[0].words[0]))
    assert compared > 50
