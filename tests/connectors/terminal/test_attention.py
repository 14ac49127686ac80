"""A request for an answer calls the person at the terminal, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.contract.connector_registry import NoSettings
from connectors.contract.messages import Message, Outbound, Priority
from connectors.terminal.attention import FRESH_S, calls, sequences
from connectors.terminal.connector import TerminalConnector
from connectors.terminal.transcript_file import TranscriptLine


def line(**changes: object) -> TranscriptLine:
    given = {"kind": "message", "id": "a/1", "conversation": "fleet", "at": 1000.0, "text": "May I?", **changes}
    return TranscriptLine.from_json(given)


def test_only_a_request_that_came_just_now_calls() -> None:
    asked = line(calls=True)
    assert calls(asked, now=1001.0)
    assert not calls(asked, now=1000.0 + FRESH_S), "shown again after a start"
    assert not calls(line(), now=1000.0)


def test_a_terminal_gets_a_bell_and_notifications_with_our_words_alone() -> None:
    written = sequences({"TERM": "xterm"})
    assert written.startswith("\a\x1b]9;Muster: ")
    assert "\x1b]777;notify;Muster;" in written
    assert sequences({"TERM": "dumb"}) == "\a"


def test_tmux_passes_notifications_on() -> None:
    written = sequences({"TERM": "tmux", "TMUX": "/tmp/tmux-0/default,1,0"})
    assert written.startswith("\a\x1bPtmux;\x1b\x1b]9;Muster: ")
    assert written.endswith("\x1b\x1b\\\x1b\\")


@pytest.mark.parametrize(("priority", "called"), [(Priority.APPROVAL, True), (Priority.REPLY, False)])
async def test_a_message_of_the_priority_of_approvals_calls(tmp_path: Path, priority: Priority, called: bool) -> None:
    terminal = TerminalConnector("terminal", NoSettings(), tmp_path, clock=lambda: 1000.0)
    async with terminal.attached() as session:
        message = Outbound(
            key="k", connector="terminal", conversation="fleet", content=Message(text="May I?"), priority=priority
        )
        await terminal.send(message, conversation="fleet", target=None)
        assert (await anext(session)).calls is called
