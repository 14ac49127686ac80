"""Read models as JSON, and back.

A dataclass is an object with a key for each field, a tuple is a list, a mapping an object. A union may have several
dataclasses if each has a field ``kind: Literal[...]`` of its own. Readers ignore keys that they do not know, and take
the default for a missing one, so that an older reader understands a newer writer as far as it can.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")


class NotOnWire(ValueError):
    """The value has no form in JSON, or the JSON is no such value. The message begins with the place."""


def to_wire(value: object, redact: Callable[[str], str]) -> object:
    """Return a read model as data for `json.dumps`, with the secrets in its texts masked.

    Raises:
        NotOnWire: it contains something else than dataclasses, tuples, mappings with text as keys, text, finite
            numbers, booleans and None.
    """
    # A fleet says the same words again and again; each is searched once.
    return _plain(value, cache(redact))


def _plain(value: object, redact: Callable[[str], str]) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, tuple):
        return [_plain(each, redact) for each in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {redact(key): _plain(each, redact) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name), redact) for each in dataclasses.fields(value)}
    raise NotOnWire(f"{type(value).__name__}: {value!r} has no form in JSON")


def masked(value: _T, redact: Callable[[str], str]) -> _T:
    """Return a read model with the secrets in its texts masked; the same object if there are none.

    Raises:
        NotOnWire: as `to_wire` raises it.
    """
    return cast(_T, _masked(value, cache(redact)))


def _masked(value: object, redact: Callable[[str], str]) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, tuple):
        items = tuple(_masked(each, redact) for each in value)
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    if isinstance(value, Mapping):
        return {redact(key): _masked(each, redact) for key, each in value.items()} if value else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {}
        for each in dataclasses.fields(value):
            old = getattr(value, each.name)
            new = _masked(old, redact)
            if new is not old and new != old:
                changes[each.name] = new
        return dataclasses.replace(value, **changes) if changes else value
    raise NotOnWire(f"{type(value).__name__}: {value!r} has no form in JSON")


def from_wire(kind: type[_T], raw: object) -> _T:
    """Return the read model of the type `kind` that `to_wire` wrote.

    Raises:
        NotOnWire: `raw` is no such value.
    """
    return cast(_T, _read(kind, raw, kind.__name__))


def fields_from_wire(kind: type, raw: Mapping[str, object]) -> dict[str, object]:
    """Return some fields of a read model of the type `kind`, by name; keys that it does not have are left out.

    Raises:
        NotOnWire: a value is none of its field.
    """
    types = _types(kind)
    return {name: _read(types[name], raw[name], f"{kind.__name__}.{name}") for name in types if name in raw}


def _read(kind: object, raw: object, place: str) -> object:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _read_one_of(inner, raw, place)
    if origin is Literal:
        if any(raw is each or (raw == each and type(raw) is type(each)) for each in inner):
            return raw
    elif origin is tuple:
        if isinstance(raw, list) and inner[-1] is Ellipsis:
            return tuple(_read(inner[0], each, f"{place}[{index}]") for index, each in enumerate(raw))
        if isinstance(raw, list) and len(raw) == len(inner):
            return tuple(_read(*each, f"{place}[{index}]") for index, each in enumerate(zip(inner, raw, strict=True)))
    elif origin is Mapping:
        if isinstance(raw, dict):
            return {key: _read(inner[1], each, f"{place}.{key}") for key, each in raw.items()}
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if isinstance(raw, dict):
            return _read_fields(kind, raw, place)
    elif kind is float:
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            return float(raw)
    elif kind in (str, int, bool, NoneType):
        if type(raw) is kind:
            return raw
    else:
        raise NotOnWire(f"{place}: read models have no {kind}")
    raise NotOnWire(f"{place}: expected {getattr(kind, '__name__', kind)}, not {type(raw).__name__}")


def _read_one_of(kinds: tuple[object, ...], raw: object, place: str) -> object:
    """Read a value of a union; among several dataclasses its `kind` decides."""
    if raw is None and NoneType in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not NoneType)
    if len(kinds) > 1 and isinstance(raw, dict):
        kinds = tuple(
            kind for kind in kinds if isinstance(kind, type) and raw.get("kind") in get_args(_types(kind).get("kind"))
        )
    problem = NotOnWire(f"{place}: none of its kinds")
    for kind in kinds:
        try:
            return _read(kind, raw, place)
        except NotOnWire as error:
            problem = error
    raise problem


def _read_fields(kind: type, raw: Mapping[str, object], place: str) -> object:
    types = _types(kind)
    given = {name: _read(types[name], raw[name], f"{place}.{name}") for name in types if name in raw}
    try:
        return kind(**given)
    except TypeError as error:
        raise NotOnWire(f"{place}: {error}") from None


@cache
def _types(kind: type) -> Mapping[str, object]:
    """Return the type of each field."""
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
