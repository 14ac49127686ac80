"""Forms of commands: fields from the command table, and arguments from what a browser sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from bot.commands.doors import Door
from bot.commands.parser import Json
from bot.commands.registry import Command, CommandTable, Parameter
from bot.text.errors import UsageError

#: The name of the interface in the audit.
DOOR: Final[Door] = "web"
#: Names of fields that are arguments begin with this.
ARGUMENT: Final = "a."
FieldKind: TypeAlias = Literal["checkbox", "select", "number", "text", "words"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One argument of a command as a field."""

    name: str
    label: str
    kind: FieldKind
    required: bool
    choices: tuple[str, ...] = ()
    value: str = ""
    help: str = ""
    expected: str = ""


def path_of(command: Command) -> str:
    """Return the address of a command's form."""
    return f"/commands/{command.name.replace(' ', '/')}"


def command_at(table: CommandTable, path: str) -> Command | None:
    """Return the command of a path below ``/commands/``, or None."""
    found = table.get(path.replace("/", " "))
    return found if found is not None and path_of(found) == f"/commands/{path}" else None


def fields(command: Command, given: Mapping[str, str]) -> tuple[FormField, ...]:
    """Return the fields of a command, filled with what was given before."""
    return tuple(
        _field(parameter, given.get(parameter.name, "")) for parameter in command.parameters if DOOR in parameter.doors
    )


def _field(parameter: Parameter, value: str) -> FormField:
    kind: FieldKind = "text"
    if parameter.type.flag:
        kind = "checkbox"
        value = value or ("on" if parameter.default is True else "")
    elif parameter.type.choices:
        kind = "select"
    elif parameter.type.rest and parameter.name in ("text", "prompt"):
        kind = "words"
    elif parameter.type.number:
        kind = "number"
    return FormField(
        name=f"{ARGUMENT}{parameter.name}",
        label=parameter.name.replace("_", " "),
        kind=kind,
        required=parameter.required,
        choices=parameter.type.choices,
        value=value,
        help=parameter.help,
        expected=parameter.type.expected,
    )


def given_in(sent: Mapping[str, str]) -> dict[str, str]:
    """Return the arguments among the fields that a browser sent, as text by name."""
    return {name.removeprefix(ARGUMENT): value for name, value in sent.items() if name.startswith(ARGUMENT)}


def arguments(command: Command, given: Mapping[str, str]) -> dict[str, Json]:
    """Return the arguments for a run.

    Raises:
        UsageError: an argument is wrong, unknown or missing.
    """
    made: dict[str, Json] = {}
    known = {parameter.name: parameter for parameter in command.parameters}
    for name, text in given.items():
        parameter = known.get(name)
        if parameter is None:
            raise UsageError(f'{command.name} has no argument "{name[:60]}".')
        if parameter.type.flag:
            made[name] = _flag(parameter, text)
        elif text.strip():
            words = text.replace("\r\n", "\n")
            made[name] = parameter.to_json(words if parameter.type.rest else words.strip())
    for parameter in command.parameters:
        if parameter.type.flag and parameter.default is True and parameter.name not in given:
            made[parameter.name] = False  # a browser does not send a box that is not ticked
    command.bind(made)
    return made


def as_fields(values: Iterable[tuple[str, str | bool | float]]) -> dict[str, str]:
    """Return arguments of a choice as hidden fields."""
    return {f"{ARGUMENT}{name}": _text(value) for name, value in values if value is not False}


def _text(value: str | bool | float) -> str:
    if isinstance(value, bool):
        return "on"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _flag(parameter: Parameter, text: str) -> bool:
    word = text.casefold()
    if word in {"on", "true", "yes", "1"}:
        return True
    if word in {"", "off", "false", "no", "0"}:
        return False
    raise UsageError(f'{parameter.flag_name} is on or off, not "{text[:60]}".')
