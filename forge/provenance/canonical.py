"""JSON as bytes that are the same wherever they are made, so that they can be signed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

#: JSON without floats: their digits differ between programs (RFC 8785 spends most of its rules on them).
Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"


def canonical(value: Mapping[str, Json]) -> bytes:
    """Return an object with sorted keys, without blanks, in UTF-8. Of RFC 8785 it needs no more: keys are ASCII.

    Raises:
        ValueError: it has a float, or text that is no Unicode.
    """
    _check(dict(value))
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _check(value: Json) -> None:
    if isinstance(value, float):
        raise ValueError(f"{value!r} is a float. Write decimals as strings.")
    if isinstance(value, dict):
        for each in value.values():
            _check(each)
    elif isinstance(value, list):
        for each in value:
            _check(each)
