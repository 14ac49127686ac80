"""Texts about processes that an agent left running."""

from __future__ import annotations

from bot.commands.syntax import command_line
from bot.text import markdown
from fleet.control.agent_host_client import BackgroundProcesses


def background_in_words(name: str, left: BackgroundProcesses | None) -> str:
    """Return a warning about an agent's running processes and the command that ends them; empty if there are none."""
    if left is None:
        return ""
    names = ", ".join(markdown.code(markdown.one_line(each, 40)) for each in left.names)
    many = left.count > 1
    return (
        f" ⚠️ {left.count} process{'es' if many else ''} that {name} started still run{'' if many else 's'} "
        f"({names}). {command_line(f'stop {name} --now')} ends {'them' if many else 'it'} with the agent."
    )
