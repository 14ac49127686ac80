"""Every command of the shell is where its name says, and is imported when it is used."""

from __future__ import annotations

from bot.interfaces.cli.shell_commands import CONFIRM_ONLY, SHELL_COMMANDS


def test_every_name_leads_to_its_command() -> None:
    made = {name: SHELL_COMMANDS[name] for name in SHELL_COMMANDS}
    assert [name for name, command in made.items() if command.name != name] == []
    assert len(set(map(id, made.values()))) == len(made), "no command has two names"


def test_the_commands_that_quiet_silences_exist() -> None:
    assert CONFIRM_ONLY - set(SHELL_COMMANDS) == set()


def test_an_unknown_name_is_no_command() -> None:
    assert "ps" not in SHELL_COMMANDS
    assert SHELL_COMMANDS.get("ps") is None
