"""JSON schemas of read models, as `codec` writes them. (JSON Schema 2020-12.)"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

_NAMES: Final[Mapping[object, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    NoneType: "null",
}


def definitions_of(*kinds: type) -> dict[str, Any]:
    """Return the schemas of these dataclasses and of all that they contain, by class name. They refer to each other as
    ``#/components/schemas/NAME`` (OpenAPI Specification 3.1, components object)."""
    found: dict[str, Any] = {}
    for kind in kinds:
        _define(kind, found)
    return found


def _define(kind: type, found: dict[str, Any]) -> None:
    if kind.__name__ in found:
        return
    schema: dict[str, Any] = {"type": "object"}
    found[kind.__name__] = schema
    hints = get_type_hints(kind)
    fields = dataclasses.fields(kind)
    schema["properties"] = {each.name: _schema(hints[each.name], found) for each in fields}
    schema["required"] = [each.name for each in fields]


def _schema(kind: object, found: dict[str, Any]) -> dict[str, Any]:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        choices = [_schema(each, found) for each in inner]
        if all(set(each) == {"type"} for each in choices):
            return {"type": [each["type"] for each in choices]}
        return {"anyOf": choices}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        return {"type": "array", "items": _schema(inner[0], found)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema(inner[1], found)}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        _define(kind, found)
        return {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"type": _NAMES[kind]}
