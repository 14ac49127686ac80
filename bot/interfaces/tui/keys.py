"""The keys of the dashboard, and what asks before it acts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bot.interfaces.tui.widgets.text_pane import TextLine


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKey:
    """A key that runs a command on the chosen agent."""

    key: str
    command: str
    label: str
    text: bool = False
    """Whether the command takes a text, which is asked for."""


#: Keys that run a command on the chosen agent.
AGENT_KEYS: Final = (
    AgentKey(key="s", command="send", label="Send", text=True),
    AgentKey(key="S", command="steer", label="Steer", text=True),
    AgentKey(key="c", command="cutoff", label="Cut off"),
    AgentKey(key="C", command="restore", label="Restore"),
    AgentKey(key="f", command="freeze", label="Freeze"),
    AgentKey(key="F", command="resume", label="Resume"),
    AgentKey(key="x", command="stop", label="Stop"),
    AgentKey(key="X", command="kill", label="Kill"),
    AgentKey(key="v", command="diff", label="Diff"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKey:
    """A key that runs a command on the chosen run. On the page of runs it comes before the agent's key."""

    key: str
    command: str
    label: str
    meaning: str


#: Keys that run a command on the chosen run.
RUN_KEYS: Final = (
    RunKey(key="r", command="runs retry", label="Retry", meaning="retry: an issue goes on, another run is repeated"),
    RunKey(key="A", command="runs allow", label="Allow", meaning="allow what is in the way of its push, one at a time"),
    RunKey(key="x", command="runs stop", label="Stop", meaning="stop the run, and not only its agent"),
)
#: What a key's command does, for the question before it.
ASKED: Final[Mapping[str, str]] = {
    "cutoff": "Nothing of it leaves any more, until it is restored. What it waits for fails.",
    "freeze": "It stops after its turn, until it is resumed.",
    "stop": "It stops after its turn.",
    "kill": "It and everything that it started end at once. What it was doing is lost.",
    "runs retry": "An agent works on it again, and uses tokens.",
    "runs allow": "It counts as no secret, and the commits are published again.",
    "runs stop": "Its turn is cancelled, and its agent frozen.",
    "estop": "No agent gets out any more, until the emergency stop is ended.",
}

_GROUPS: Final = (
    (
        "Everywhere",
        (
            ("1 … 9", "a page: fleet, waiting, tasks, limits, accounts, audit, health, what limits did, runs"),
            (":", "a command, as in a shell; Tab completes it"),
            ("Ctrl-p", "all commands, to search"),
            ("Ctrl-e", "emergency stop: no agent gets out"),
            ("T", "dark, or light"),
            ("?", "these keys"),
            ("q, Esc", "back; q on the first page quits"),
        ),
    ),
    (
        "In a table",
        (
            ("↑ ↓ j k g G", "move"),
            ("Enter", "open"),
            ("/", "filter; Esc clears it"),
            ("p", "of the audit log: older entries"),
            ("o O", "sort by the next column; reverse"),
            ("Tab", "to the text below, and back"),
        ),
    ),
    (
        "An agent",
        (
            *((each.key, each.label.lower()) for each in AGENT_KEYS),
            ("a d", "approve or deny its oldest request: shows it first"),
            ("t", "on its page: thoughts"),
            ("p", "on its page: older turns"),
        ),
    ),
    (
        "A run",
        (
            *((each.key, each.meaning) for each in RUN_KEYS),
            ("Enter", "its page; Enter there opens its agent"),
        ),
    ),
    (
        "A message",
        (
            ("Enter", "sends it"),
            ("Ctrl-j", "begins a new line; so do Shift-Enter and Alt-Enter, where the terminal tells them apart"),
        ),
    ),
)


def keys_text() -> list[TextLine]:
    """Return the keys, by where they work."""
    lines = []
    for title, keys in _GROUPS:
        lines.append(TextLine(title, "accent"))
        lines += [TextLine(f"{key:<12} {meaning}", indent=2) for key, meaning in keys]
    return lines
