"""A person is called once when something waits, and not again and again."""

from __future__ import annotations

import pytest

from connectors.terminal.attention import AttentionCalls
from connectors.terminal.transcript_file import TranscriptLine


def waiting(count: int | None, attention: str = "bell") -> TranscriptLine:
    return TranscriptLine(kind="fleet", id="", conversation="", at=0.0, waiting=count, attention=attention)


class Terminal:
    def __init__(self, environ: dict[str, str] | None = None, *, titled: bool = False) -> None:
        self.now = 0.0
        self.calls = AttentionCalls(environ or {"TERM": "xterm"}, titled=titled, clock=lambda: self.now)

    def hears(self, count: int | None, attention: str = "bell") -> str:
        return self.calls.heard(waiting(count, attention))


def test_it_rings_when_more_waits() -> None:
    terminal = Terminal()
    assert terminal.hears(0) == ""
    assert terminal.hears(1) == "\a"
    assert terminal.hears(1) == ""
    terminal.now = 60.0
    assert terminal.hears(3) == "\a"
    assert terminal.hears(2) == ""


def test_a_flood_rings_once_in_a_while() -> None:
    terminal = Terminal()
    rang = 0
    for second in range(60):
        terminal.now = float(second)
        rang += terminal.hears(1).count("\a") + terminal.hears(0).count("\a")
    assert rang == 6


def test_news_without_a_number_change_nothing() -> None:
    terminal = Terminal()
    terminal.hears(1)
    terminal.now = 60.0
    assert terminal.hears(None) == ""
    assert terminal.hears(1) == "", "it has waited all the time"


def test_it_can_be_off() -> None:
    assert Terminal().hears(1, "off") == ""
    assert Terminal(titled=True).hears(1, "off") == "\x1b]2;(1) Muster\a", "the title makes no noise"


@pytest.mark.parametrize(
    ("environ", "sent"),
    [
        ({"TERM": "xterm-256color"}, "\x1b]9;Muster: 1 waiting for you\a\x1b]777;notify;Muster;1 waiting for you\a"),
        ({"TERM": "xterm", "TERM_PROGRAM": "ghostty"}, "\x1b]9;Muster: 1 waiting for you\a"),
        ({"TERM": "foot"}, "\x1b]777;notify;Muster;1 waiting for you\a"),
        ({"TERM": "xterm", "VTE_VERSION": "7600"}, "\x1b]777;notify;Muster;1 waiting for you\a"),
        (
            {"TERM": "foot", "TMUX": "/tmp/x,1,0"},
            "\x1bPtmux;\x1b\x1b]777;notify;Muster;1 waiting for you\a\x1b\\",
        ),
        ({"TERM": "dumb"}, ""),
        ({"TERM": "linux"}, ""),
    ],
)
def test_a_notification_is_one_that_the_terminal_knows(environ: dict[str, str], sent: str) -> None:
    assert Terminal(environ).hears(1, "desktop") == f"\a{sent}"


def test_the_title_shows_how_much_waits_and_is_given_back() -> None:
    terminal = Terminal(titled=True)
    assert terminal.calls.begin() == "\x1b[22;2t\x1b]2;Muster\a"
    assert terminal.hears(2) == "\x1b]2;(2) Muster\a\a"
    assert terminal.hears(0) == "\x1b]2;Muster\a"
    assert terminal.calls.end() == "\x1b[23;2t"
    dumb = Terminal({"TERM": "dumb"}, titled=True)
    assert dumb.calls.begin() + dumb.hears(1) + dumb.calls.end() == "\a"
