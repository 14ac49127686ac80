"""What the help and the manual page share: the commands to start with, and a program whose commands have sections."""

from __future__ import annotations

import click

from bot.commands.syntax import SHELL

#: Commands to start with, and what each does.
FIRST_STEPS = (
    ("up --demo", "Try it: a fleet of built-in agents. It needs no keys and no account."),
    ("init", "Write muster.yaml and roster.yaml for your own agents."),
    ("up", "Start your fleet, and talk to it at a prompt."),
)
EXAMPLES = (
    "launch coder0 --runtime claude",
    'send coder0 "Fix the parser, and add a test."',
    "ps --json",
    "help launch",
)


class GroupedProgram(click.Group):
    """A program whose commands have sections."""

    def grouped(self) -> dict[str, list[str]]:
        """Return the names of the commands by the title of their section."""
        raise NotImplementedError


def first_steps() -> list[tuple[str, str]]:
    """Return the commands to start with as a shell has them, and what each does."""
    return [(SHELL + line, meaning) for line, meaning in FIRST_STEPS]
