"""The commands for the shell only, by name. The module of a command is imported when the command is used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

_EGRESS = "bot.interfaces.cli.egress_commands"
_FORGE = "bot.interfaces.cli.forge.commands"
_HELP = "bot.interfaces.cli.help_command"
_MAINTENANCE = "bot.interfaces.cli.maintenance_commands"
_PROCESS = "bot.interfaces.cli.process_commands"
_PROVENANCE = "bot.interfaces.cli.provenance_commands"

#: Those that only print what they did, which `muster --quiet` leaves out.
CONFIRM_ONLY = frozenset(
    {"down", "install", "register copy", "egress stop", "egress cutoff", "egress restore", "estop", "backup",
     "backup restore", "update"}
)  # fmt: skip


class ShellCommands(Mapping[str, click.Command]):
    """Commands by name, imported on demand."""

    def __init__(self, places: Mapping[str, tuple[str, str]]) -> None:
        """Take the module and the attribute of each command by its name."""
        self._places = places

    def __getitem__(self, name: str) -> click.Command:
        module, attribute = self._places[name]
        made = getattr(import_module(module), attribute)
        assert isinstance(made, click.Command)
        made.name = name
        return made

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


SHELL_COMMANDS = ShellCommands(
    {
        "up": (_PROCESS, "up"),
        "down": (_PROCESS, "down"),
        "chat": (_PROCESS, "chat"),
        "attach": (_PROCESS, "attach"),
        "dashboard": (_PROCESS, "dashboard"),
        "init": (_PROCESS, "init"),
        "config check": (_PROCESS, "config_check"),
        "config schema": (_PROCESS, "config_schema"),
        "doctor": (_PROCESS, "doctor"),
        "install": (_PROCESS, "install"),
        "login": (_PROCESS, "login"),
        "register copy": (_PROCESS, "register_copy"),
        "forge check": (_FORGE, "forge_check"),
        "provenance verify": (_PROVENANCE, "provenance_verify"),
        "egress": (_EGRESS, "egress"),
        "egress status": (_EGRESS, "egress_status"),
        "egress stop": (_EGRESS, "egress_stop"),
        "egress cutoff": (_EGRESS, "egress_cutoff"),
        "egress restore": (_EGRESS, "egress_restore"),
        "estop": (_EGRESS, "estop"),
        "backup": (_MAINTENANCE, "backup"),
        "backup restore": (_MAINTENANCE, "backup_restore"),
        "update": (_MAINTENANCE, "update"),
        "completion": (_PROCESS, "completion"),
        "help": (_HELP, "help_command"),
    }
)
