"""The help, rendered from the command table for a person's permission. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from bot.auth.permission import Permission
from bot.commands.doors import EVERYWHERE, listed
from bot.commands.registry import Command, CommandTable
from bot.commands.syntax import command_line, in_docstring
from bot.text.errors import UserError

#: Words that exist only in chat, to answer a command's question.
CHAT_WORDS = {
    "confirm": "Say yes to a command of yours that asked for a confirmation.",
    "decline": "Take such a command back.",
}


#: The word that asks for all commands in chat with what they do.
ALL = "all"


@lru_cache(maxsize=16)
def overview(table: CommandTable, permission: Permission, *, chat: bool = False) -> str:
    """Return every command that `permission` may run, by section, with one line each."""
    sections: dict[str, list[str]] = {}
    for command in table.visible(permission, "chat" if chat else None):
        summary = in_docstring(command.summary, table)
        sections.setdefault(command.help_section, []).append(f"- {command_line(command.usage)}: {summary}")
    if chat:
        sections["answers"] = [f"- {command_line(f'{word} [ID]')}: {meaning}" for word, meaning in CHAT_WORDS.items()]
    parts = [f"**{section}**\n\n" + "\n".join(lines) for section, lines in sections.items()]
    parts.append(f"{command_line('help NAME')} explains one.")
    return "\n\n".join(parts)


@lru_cache(maxsize=16)
def names(table: CommandTable, permission: Permission) -> str:
    """Return the names of the commands that `permission` may run in chat, one line for each section: for a phone."""
    sections: dict[str, list[str]] = {}
    for command in table.visible(permission, "chat"):
        sections.setdefault(command.help_section, []).append(command.name)
    sections["answers"] = list(CHAT_WORDS)
    lines = [f"**{section}**: {', '.join(found)}" for section, found in sections.items()]
    explained, listed = command_line("help NAME"), command_line(f"help {ALL}")
    return "\n\n".join([*lines, f"{explained} explains one, and {listed} says what each does."])


def explanation(command: Command, table: CommandTable) -> str:
    """Return the usage, the description and the arguments of one command."""
    lines = [command_line(command.usage), "", in_docstring(command.summary, table)]
    if command.description:
        lines += ["", in_docstring(command.description, table)]
    arguments = [_argument(parameter.flag_name if parameter.option else parameter.usage.strip("[]"),
                           in_docstring(parameter.help, table))
                 for parameter in command.parameters if parameter.help]  # fmt: skip
    if arguments:
        lines += ["", *arguments]
    lines += ["", f"For the permission {command.permission} and above."]
    if isinstance(command.confirm, str):
        flag = next(each.flag_name for each in command.parameters if each.name == command.confirm)
        lines[-1] += f" With {flag} it asks for a confirmation first."
    elif command.confirm:
        lines[-1] += " It asks for a confirmation first."
    if command.confirm:
        lines[-1] = f"{lines[-1]} {command.undo_words}".rstrip()
    if command.doors != EVERYWHERE:
        lines[-1] += f" Only {listed(command.doors)}."
    lines[-1] += "".join(
        f" {each.title} only {listed(each.doors)}." for each in command.parameters if each.doors != EVERYWHERE
    )
    if further := [command_line(each.name) for each in table if each.name.startswith(f"{command.name} ")]:
        lines += ["", f"Further commands: {', '.join(further)}."]
    return "\n".join(lines)


def find(table: CommandTable, words: str, permission: Permission) -> list[Command]:
    """Return the command called `words`, or those with this first word.

    Raises:
        UserError: there is none that `permission` may run.
    """
    command = table.get(words)
    if command is not None and command.permission <= permission:
        return [command]
    first = " ".join(words.casefold().split())
    group = [command for command in table.visible(permission) if command.name.startswith(first + " ")]
    if not group:
        raise UserError(unknown(table, words, permission), code="command.unknown")
    return group


def unknown(table: CommandTable, line: str, permission: Permission) -> str:
    """Return the text about an unknown command, with suggestions."""
    word = " ".join(line.split())
    shown = word if len(word) <= 40 else word[:39] + "…"
    close = [command_line(name) for name in table.suggestions(line, permission)]
    hint = f"Did you mean {' or '.join(close)}?" if close else f"{command_line('help')} lists the commands."
    return f'There is no command "{shown}". {hint}'


def as_json(commands: Iterable[Command]) -> list[dict[str, Any]]:
    """Return commands as JSON."""
    return [
        {
            "name": command.name,
            "section": command.help_section,
            "usage": command.usage,
            "summary": command.summary,
            "description": command.description,
            "permission": str(command.permission),
            "confirm": bool(command.confirm),
            "doors": sorted(command.doors),
            "arguments": [
                {
                    "name": parameter.name,
                    "option": parameter.option,
                    "required": parameter.required,
                    "flag": parameter.type.flag,
                    "choices": list(parameter.type.choices),
                    "source": parameter.type.source,
                    "help": parameter.help,
                    "doors": sorted(parameter.doors),
                }
                for parameter in command.parameters
            ],
        }
        for command in commands
    ]


def _argument(name: str, meaning: str) -> str:
    return f"- `{name}`: {meaning}"
