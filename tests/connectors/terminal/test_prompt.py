"""The terminal as a person sees it, and as a pipe reads it."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from connectors.terminal.draft import Begun, Draft
from connectors.terminal.transcript_view import wants_colour

PROGRAM = [sys.executable, "-m", "tests.connectors.terminal.echo_program"]


def piped(folder: Path, text: bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*PROGRAM, str(folder)], input=text, capture_output=True, timeout=60, check=False, **options)


def test_each_line_of_a_pipe_is_a_message_and_its_end_waits_for_the_answers(tmp_path: Path) -> None:
    done = piped(tmp_path, b"hello\n\n  \nsecond")
    assert done.stdout.decode().splitlines() == [
        "◈ [✅ on your message]",
        "you said 'hello'",
        "◈ [✅ on your message]",
        "you said 'second'",
        "bye",
    ]
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_pipe_sees_only_finished_texts(tmp_path: Path) -> None:
    assert piped(tmp_path, b"write\n").stdout.decode().splitlines() == ["one", "two", "three", "bye"]


def test_a_pipe_can_change_the_conversation_to_one_that_is_just_being_opened(tmp_path: Path) -> None:
    done = piped(tmp_path, b"open coder0\n/switch coder0\nhello\n/switch\n/switch nobody\n/quit\nnever said\n")
    said = done.stdout.decode().splitlines()
    assert said == [
        "◈ coder0 starts",
        "◈ [fleet/coder0 is open: /switch coder0 to talk there]",
        "[now in fleet/coder0]",
        "[now in fleet]",
        "◈ [fleet/coder0] [✅ on your message]",
        "[fleet/coder0] you said 'hello'",
        "[there is no conversation 'nobody'; there are fleet, fleet/coder0]",
        "bye",
    ]


def test_the_prompts_own_help_is_not_said_to_an_agent(tmp_path: Path) -> None:
    said = piped(tmp_path, b"/help\n/compact\n").stdout.decode()
    assert "/quit or Ctrl-D ends." in said
    assert "you said '/help'" not in said
    assert "you said '/compact'" in said, "agents have such commands, too"


def test_a_command_can_begin_with_a_slash(tmp_path: Path) -> None:
    said = piped(tmp_path, b"/ps\n/PS --all\n/pst\n/\n").stdout.decode()
    assert [line for line in said.splitlines() if line.startswith("you said")] == [
        "you said '!ps'", "you said '!ps --all'", "you said '/pst'", "you said '/'",
    ]  # fmt: skip


def test_what_is_said_elsewhere_is_marked_with_its_place(tmp_path: Path) -> None:
    piped(tmp_path, b"open coder0\n/switch coder0\nhello\n")
    assert "[fleet/coder0] you said 'hello'" in piped(tmp_path, b"").stdout.decode().splitlines()


def test_bytes_that_are_no_text_end_nothing(tmp_path: Path) -> None:
    done = piped(tmp_path, b"\xff\xfe\x00\nhello\n")
    assert "you said 'hello'" in done.stdout.decode()
    assert b"\x00" not in done.stdout


def test_no_standard_input_is_an_empty_one(tmp_path: Path) -> None:
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *PROGRAM, str(tmp_path)], capture_output=True, timeout=60, check=False
    )
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, b"bye\n", b"")


def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path) -> None:
    script = f'yes hello | head -2000 | "$0" -m tests.connectors.terminal.echo_program {tmp_path} | head -1'
    done = subprocess.run(["/bin/sh", "-c", script, sys.executable], capture_output=True, timeout=60, check=False)
    assert done.stdout.decode().count("\n") == 1
    assert done.stderr == b""


@pytest.fixture
def person(tmp_path: Path) -> Iterator[pexpect.spawn[str]]:
    with at_a_terminal(tmp_path, TERM="xterm") as child:
        yield child


def test_a_person_gets_a_hint_a_prompt_and_an_answer(person: pexpect.spawn[str]) -> None:
    assert "!help" in str(person.before)
    person.send("hello\r")
    # One row up, behind what was typed.
    person.expect("\x1b7\x1b\\[1A\x1b\\[14G✅\x1b8")
    person.expect(r"parrot \d\d:\d\d\r*\n│ you said 'hello'")
    # While something is printed the prompt is away, and the terminal itself takes this key.
    person.expect("fleet>")
    person.sendcontrol("d")
    person.expect("bye")
    person.expect(pexpect.EOF)


def test_a_terminal_that_cannot_go_back_gets_receipts_as_lines(tmp_path: Path) -> None:
    with at_a_terminal(tmp_path, TERM="dumb") as child:
        child.send("hello\r")
        child.expect(r"◈ \d\d:\d\d \[✅ on your message\]")
        child.expect("│ you said 'hello'")
        child.send("wait 2\r")
        child.expect("\a")
        child.send("hello\r")
        child.expect("you said 'hello'")
        assert "\x1b]" not in str(child.before)


def test_what_waits_is_heard_and_in_the_title_until_the_prompt_ends(tmp_path: Path) -> None:
    with at_a_terminal(tmp_path, TERM="xterm") as child:
        assert "\x1b[22;2t\x1b]2;Muster\a" in str(child.before)
        child.send("wait 2\r")
        child.expect("\x1b]2;\\(2\\) Muster\a\a\x1b]9;Muster: 2 waiting for you\a\x1b]777;notify;Muster;2 waiting")
        child.send("wait 0\r")
        child.expect("\x1b]2;Muster\a")
        child.send("wait 1\r")
        child.expect("\x1b]2;\\(1\\) Muster\a")
        child.send("/quit\r")
        child.expect("\x1b\\[23;2t")
        assert "\a" not in str(child.before), "it rang a moment ago"


@contextlib.contextmanager
def at_a_terminal(folder: Path, **variables: str) -> Iterator[pexpect.spawn[str]]:
    environment = {**os.environ, "NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1", **variables}
    for name in ("TMUX", "TERM_PROGRAM", "VTE_VERSION"):
        environment.pop(name, None)
    child = pexpect.spawn(
        PROGRAM[0],
        [*PROGRAM[1:], str(folder)],
        env=environment,
        encoding="utf-8",
        dimensions=(40, 120),
        timeout=20,
    )
    try:
        child.expect("fleet>")
        yield child
    finally:
        child.close(force=True)


def test_a_text_grows_while_it_is_written(person: pexpect.spawn[str]) -> None:
    person.send("write\r")
    person.expect("one\r*\n")
    person.expect("two\r*\n")
    person.expect("three\r*\n")


def test_tab_completes(person: pexpect.spawn[str]) -> None:
    person.send("!la\t")
    person.expect("unch")
    person.send("\r")
    person.expect("you said '!launch'")


def test_switching_changes_the_prompt(person: pexpect.spawn[str]) -> None:
    person.send("open coder0\r")
    person.expect("fleet/coder0 is open: /switch coder0")
    person.send("/switch cod\t")
    person.expect("er0")
    person.send("\r")
    person.expect("fleet/coder0>")
    person.send("hello\r")
    person.expect("you said 'hello'")
    person.send("work\r")
    person.expect("coder0: bus")
    person.send("/quit\r")
    person.expect("bye")


def test_ctrl_c_clears_the_line_and_then_leaves(person: pexpect.spawn[str]) -> None:
    person.send("not to be said")
    person.sendcontrol("c")
    person.send("hello\r")
    person.expect("you said 'hello'")
    person.sendcontrol("c")
    person.expect("bye")


def test_the_history_is_kept_for_this_person_alone(person: pexpect.spawn[str], tmp_path: Path) -> None:
    person.send("hello\r")
    person.expect("you said 'hello'")
    person.send("\x1b[A")
    person.send("\r")
    person.expect("you said 'hello'")
    assert (tmp_path / "history").stat().st_mode & 0o777 == 0o600
    assert "+hello" in (tmp_path / "history").read_text()


def test_a_line_that_was_begun_is_kept_when_the_terminal_is_gone_without_a_signal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb+", buffering=0) as terminal:
        # No session of its own: this terminal hangs up on nobody.
        child = subprocess.Popen([*PROGRAM, str(tmp_path)], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
        os.close(theirs)
        shown = b""
        while b"fleet>" not in shown:
            shown += terminal.read(1000)
        terminal.write(b"half a")
        while b"half a" not in shown:
            shown += terminal.read(1000)
    child.wait(20)
    assert Draft(tmp_path / "draft").take() == Begun("fleet", "half a")


@pytest.mark.parametrize(
    ("environ", "tty", "colour"),
    [({}, True, True), ({}, False, False), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, True, False)],
)
def test_colours_are_for_terminals_that_want_them(environ: dict[str, str], tty: bool, colour: bool) -> None:
    assert wants_colour(environ, tty=tty) is colour
