"""What Discord takes for slash commands, and how it gives them back (documentation, "Application Commands")."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

_NAME = re.compile(r"[-_'a-z0-9]{1,32}")
SUBCOMMAND, STRING, INTEGER, BOOLEAN, NUMBER = 1, 3, 4, 5, 10


def problem(commands: list[Json], *, direct: bool) -> str | None:
    """Why these are no commands; None: they are."""
    if len(commands) > 100:
        return "more than 100 commands"
    names = [each.get("name") for each in commands]
    if len(set(names)) < len(names):
        return "two commands of one name"
    for command in commands:
        if not direct and ("contexts" in command or "integration_types" in command):
            return "contexts are for global commands"
        if _length(command) > 8000:
            return f"{command['name']} is longer than 8000 characters"
        if (found := _wrong(command, top=True)) is not None:
            return f"{command.get('name')}: {found}"
    return None


def _wrong(given: Json, *, top: bool = False) -> str | None:
    options = given.get("options") or []
    names = [each.get("name") for each in options]
    if not _NAME.fullmatch(given.get("name", "")):
        return "a name that is none"
    if not 1 <= len(given.get("description", "")) <= 100:
        return "a description that is too long, or none"
    if len(options) > 25 or len(set(names)) < len(names):
        return "too many options, or two of one name"
    subcommands = [each for each in options if each["type"] == SUBCOMMAND]
    if subcommands and (len(subcommands) < len(options) or not top):
        return "subcommands beside values, or within subcommands"
    required = [each.get("required", False) for each in options]
    if sorted(required, reverse=True) != required:
        return "what is required stands first"
    choices = given.get("choices") or []
    if len(choices) > 25 or (choices and given.get("autocomplete")):
        return "too many choices, or choices that are completed"
    if any(not 1 <= len(each["name"]) <= 100 or len(each["value"]) > 100 for each in choices):
        return "a choice that is too long"
    return next((f"{each.get('name')}: {found}" for each in options if (found := _wrong(each))), None)


def _length(given: Json) -> int:
    own = len(given.get("name", "")) + len(given.get("description", ""))
    choices = sum(len(each["name"]) + len(each["value"]) for each in given.get("choices") or [])
    return own + choices + sum(_length(each) for each in given.get("options") or [])


def kept(command: Json) -> Json:
    """A command as Discord gives it back: what is not said has its default, or is left out."""
    usual = {"default_member_permissions": None, "nsfw": False, "dm_permission": True, "name_localizations": None}
    return usual | {"contexts": None, "integration_types": [0]} | _kept(command)


def _kept(given: Json) -> Json:
    left_out = {key: value for key, value in given.items() if value not in (False, [], None)}
    if "options" in left_out:
        left_out["options"] = [_kept(each) for each in given["options"]]
    return left_out
