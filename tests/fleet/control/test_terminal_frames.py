from __future__ import annotations

import pytest

from fleet.control.terminal_frames import (
    TerminalBytes,
    TerminalEnd,
    TerminalFrame,
    TerminalSize,
    frame_of,
    line_of,
    size,
    variables,
)


@pytest.mark.parametrize(
    "frame",
    [TerminalBytes(bytes(range(256))), TerminalBytes(b""), TerminalSize(31, 101), TerminalEnd("It ended.\n\x1b[m")],
)
def test_a_frame_is_one_line_and_comes_back_as_it_was(frame: TerminalFrame) -> None:
    line = line_of(frame)
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert frame_of(line) == frame


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[1]",
        b"{}",
        b'{"data": 1}',
        b'{"data": "%"}',
        b'{"size": [1]}',
        b'{"size": [true, 80]}',
        b'{"size": [-1, 80]}',
        b'{"size": [24, 1e9]}',
        b'{"size": [24, 10001]}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_frame_is_an_error_and_no_fault(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any says that it is none
        frame_of(line)


def test_a_terminal_that_does_not_know_its_size_gets_the_usual_one() -> None:
    assert size(0, 0) == TerminalSize(24, 80)


def test_a_program_gets_no_variables_but_those_of_terminals_and_languages() -> None:
    environ = {
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "../../etc",
        "LC_CTYPE": 1,
        "LD_PRELOAD": "x.so",
        "HOME": "home",
        "TERMINFO": "ti",
    }
    assert variables(environ) == {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "de_DE.UTF-8"}
    assert variables({"TERM": "x\n"}) == {}
    assert variables({"TERM": "x" * 65}) == {}
