"""The JSON schema of a command's arguments."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bot.commands.registry import Command, Parameter


def arguments_schema(command: Command, only: Collection[str] | None = None) -> dict[str, Any]:
    """Return the JSON schema of a command's arguments, or of some of them."""
    parameters = [each for each in command.parameters if only is None or each.name in only]
    return {
        "type": "object",
        "properties": {parameter.name: _schema(parameter) for parameter in parameters},
        "required": [parameter.name for parameter in parameters if parameter.required],
        "additionalProperties": False,
    }


def _schema(parameter: Parameter) -> dict[str, Any]:
    schema = dict(parameter.type.schema)
    if parameter.help:
        schema["description"] = parameter.help
    if isinstance(parameter.default, str | int | float):
        schema["default"] = parameter.default
    return schema
