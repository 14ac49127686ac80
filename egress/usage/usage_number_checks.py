"""Usage objects, read with suspicion: a number that cannot be is no number, and nothing is ever lowered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from egress.ledger.model import ERROR_TYPES, OTHER_ERROR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST = 10**12
"""More tokens than this no request has."""
LONGEST_WORD = 200
_MOST_KEYS = 64
MOST_MEMBERS = 64
_DEEPEST = 4
_DECODER = json.JSONDecoder()


def loads(source: bytes | bytearray) -> Any:
    """JSON, as lenient about UTF-8 as the readers of event streams have to be.

    Raises:
        ValueError: it is none.
    """
    try:
        return _DECODER.decode(source.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def first(source: bytes | bytearray) -> tuple[Any, int]:
    """Return the JSON value that the source begins with, and where it ends, in bytes.

    Raises:
        ValueError: it begins with none.
    """
    # Unlike "replace", this can be counted back into bytes.
    text = source.decode("utf-8", "surrogateescape")
    begin = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        found, end = _DECODER.raw_decode(text, begin)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return found, len(text[:end].encode("utf-8", "surrogateescape"))


def sound(value: object) -> bool:
    """Return whether this can be a number of tokens."""
    return type(value) is int and 0 <= value <= MOST


def number(source: object, *path: str) -> int:
    """Return the tokens that stand at a path; 0 where there is nothing, or nothing sound."""
    for key in path:
        if not isinstance(source, dict):
            return 0
        source = source.get(key)
    return source if type(source) is int and 0 <= source <= MOST else 0


def told(source: object, *path: str) -> bool:
    """Return whether a number of tokens is at a path."""
    for key in path:
        if not isinstance(source, dict):
            return False
        source = source.get(key)
    return sound(source)


def odd(source: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> bool:
    """Return whether something that is no number of tokens stands where one belongs. Absent and null are not odd."""
    for path in paths:
        value: object = source
        for key in path:
            if value is None:
                break
            if not isinstance(value, dict):
                return True
            value = value.get(key)
        if value is not None and not sound(value):
            return True
    return False


def merged(older: Mapping[str, Any], newer: Mapping[str, Any], depth: int = 1) -> dict[str, Any]:
    """Return both usage objects in one: of two numbers the larger, of anything else the newer, and null counts for
    nothing.

    What has no place in a ledger is left out: impossible numbers of tokens, long words, deep or endless structures.
    """
    both = dict(older)
    for key, value in newer.items():
        if value is None or len(key) > LONGEST_WORD or (key not in both and len(both) >= _MOST_KEYS):
            continue
        before = both.get(key)
        if isinstance(value, dict):
            if depth < _DEEPEST:
                both[key] = merged(before if isinstance(before, dict) else {}, value, depth + 1)
        elif isinstance(value, list):
            # Of two lists the longer: it is told again with what was added.
            if depth < _DEEPEST and (len(before) if isinstance(before, list) else 0) <= len(value) <= MOST_MEMBERS:
                both[key] = [merged({}, member, depth + 1) for member in value if isinstance(member, dict)]
        elif isinstance(value, str):
            if len(value) <= LONGEST_WORD:
                both[key] = value
        elif isinstance(value, bool) or (isinstance(value, float) and value == value and abs(value) <= MOST):
            if not key.endswith("_tokens"):
                both[key] = value
        elif isinstance(value, int) and sound(value):
            both[key] = max(before, value) if type(before) is int else value
    return both


def word(value: object) -> str | None:
    """Return a name that a provider gave, if it is one."""
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_WORD and value.isprintable() else None


def error_type(error: object) -> str:
    """Return the type of a provider's error object. Of what it wrote besides, nothing is kept."""
    if isinstance(error, dict):
        for key in ("code", "type"):
            named = error.get(key)
            if isinstance(named, str) and named in ERROR_TYPES:
                return named
    return OTHER_ERROR
