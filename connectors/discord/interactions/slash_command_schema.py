"""Slash commands: from forms to what Discord is told of them, and back from what someone chose. Pure.

The limits are those of "Application Commands": names, descriptions, numbers of options and choices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import discord
from discord import AppCommandOptionType

from connectors.contract.slash_command_forms import Form, Option, OptionKind, Value
from connectors.discord.json_values import Json, clean, json_objects

MOST_COMMANDS = 100
MOST_OPTIONS = 25
MOST_CHOICES = 25
LONGEST_CHOICE = 100
_LONGEST_DESCRIPTION = 100
_NAME = re.compile(r"[a-z0-9_-]{1,32}")
_SUBCOMMAND = AppCommandOptionType.subcommand.value
_KINDS = {
    OptionKind.TEXT: AppCommandOptionType.string.value,
    OptionKind.INTEGER: AppCommandOptionType.integer.value,
    OptionKind.FLAG: AppCommandOptionType.boolean.value,
    OptionKind.NUMBER: AppCommandOptionType.number.value,
}
_MANAGE_GUILD = str(discord.Permissions.manage_guild.flag)
#: "Interaction Context Types": a direct conversation with the bot.
_WITH_BOT = 1


def declared(forms: Sequence[Form], *, direct: bool) -> list[Json]:
    """Return the commands as Discord takes them, those with two words as commands and subcommands.

    Args:
        forms: the commands; what has a name that Discord does not take is left out.
        direct: for direct conversations rather than for a server.
    """
    groups: dict[str, list[Form]] = {}
    for form in forms:
        if all(_NAME.fullmatch(word) for word in form.name.split()):
            groups.setdefault(form.name.split()[0], []).append(form)
    return [_command(name, members, direct=direct) for name, members in list(groups.items())[:MOST_COMMANDS]]


def _command(name: str, members: list[Form], *, direct: bool) -> Json:
    if " " in members[0].name:
        options = [
            _described(form.name.split()[1], form.description)
            | {"type": _SUBCOMMAND, "options": _options(form.options)}
            for form in members[:MOST_OPTIONS]
        ]
        about = f"{name}: {', '.join(form.name.split()[1] for form in members)}"
    else:
        options, about = _options(members[0].options), members[0].description
    made = _described(name, about) | {"type": 1, "options": options}
    if direct:
        return made | {"contexts": [_WITH_BOT], "integration_types": [0]}
    # What is really allowed, is decided when a command is given; this only keeps menus short.
    restricted = all(form.restricted for form in members)
    return made | {"default_member_permissions": _MANAGE_GUILD if restricted else None}


def _options(options: Sequence[Option]) -> list[Json]:
    ordered = sorted(options, key=lambda option: not option.required)
    return [_option(each) for each in ordered if _NAME.fullmatch(each.name)][:MOST_OPTIONS]


def _option(option: Option) -> Json:
    made = _described(option.name, option.description) | {"type": _KINDS[option.kind], "required": option.required}
    if option.choices and len(option.choices) <= MOST_CHOICES and not option.completes:
        return made | {"choices": [choice(each) for each in option.choices]}
    return made | {"autocomplete": True} if option.completes or option.choices else made


def choice(value: str) -> Json:
    """Return one value to choose."""
    return {"name": value[:LONGEST_CHOICE], "value": value}


def _described(name: str, description: str) -> Json:
    words = " ".join(description.split()) or name
    if len(words) > _LONGEST_DESCRIPTION:
        words = words[: _LONGEST_DESCRIPTION - 1].rsplit(" ", 1)[0].rstrip(" ,;:.") + "…"
    return {"name": name, "description": words}


def same(wanted: Sequence[Json], found: object) -> bool:
    """Return whether Discord has these commands, in whichever order, and no others."""
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        return False
    return _by_name(wanted) == _by_name(found)


def _by_name(commands: Sequence[Json]) -> dict[str, Json]:
    return {str(each.get("name")): _essence(each) for each in commands}


def _essence(given: Json) -> Json:
    """Return what we say of a command or of an option, without what Discord adds."""
    essence: Json = {
        key: given.get(key, usual)
        for key, usual in (
            ("name", None),
            ("description", None),
            ("type", 1),
            ("required", False),
            ("autocomplete", False),
            ("default_member_permissions", None),
        )
    }
    # Of a server's own commands Discord names contexts, too.
    essence["contexts"] = [_WITH_BOT] if given.get("contexts") == [_WITH_BOT] else None
    essence["choices"] = [(each.get("name"), each.get("value")) for each in given.get("choices") or []]
    essence["options"] = [_essence(each) for each in given.get("options") or []]
    return essence


# --- what someone chose -----------------------------------------------------------------------------------------


def chosen(data: Json) -> tuple[str, dict[str, Value]]:
    """Return the command's name and the values that were given."""
    name, options = _path(data)
    values: dict[str, Value] = {}
    for each in options:
        key, value = each.get("name"), each.get("value")
        if isinstance(key, str) and isinstance(value, str | int | float | bool):
            values[key] = clean(value) if isinstance(value, str) else value
    return name, values


def typed(data: Json) -> tuple[str, str, str] | None:
    """Command, option and what is typed of it so far; None when nothing is."""
    name, options = _path(data)
    for each in options:
        if each.get("focused") is True and isinstance(each.get("name"), str):
            return name, each["name"], clean(str(each.get("value", "")))[:LONGEST_CHOICE]
    return None


def _path(data: Mapping[str, Any]) -> tuple[str, list[Json]]:
    name = clean(str(data.get("name")))[:100]
    options = json_objects(data.get("options"))
    if options and options[0].get("type") == _SUBCOMMAND:
        return f"{name} {clean(str(options[0].get('name')))[:100]}", json_objects(options[0].get("options"))
    return name, options
