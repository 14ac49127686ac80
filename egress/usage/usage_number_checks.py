"""Defensive parsing of usage objects: impossible numbers are ignored, and no value is ever lowered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from egress.ledger.model import ERROR_TYPES, OTHER_ERROR

MOST = 10**12
"""The maximum number of tokens in a request."""
LONGEST_WORD = 200
_MOST_KEYS = 64
MOST_MEMBERS = 64
_DEEPEST = 4
_DECODER = json.JSONDecoder()


def loads(source: bytes | bytearray) -> Any:
    """Parse JSON, with the leniency about UTF-8 that event streams need.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return _DECODER.decode(source.decode("utf-8", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def first(source: bytes | bytearray) -> tuple[Any, int]:
    """Return the JSON value at the start of the source, and where it ends, in bytes.

    Raises:
        ValueError: the source does not start with one.
    """
    # Unlike "replace", this converts back into the same bytes.
    text = source.decode("utf-8", "surrogateescape")
    begin = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        found, end = _DECODER.raw_decode(text, begin)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return found, len(text[:end].encode("utf-8", "surrogateescape"))


def sound(value: object) -> bool:
    """Return whether the value can be a number of tokens."""
    return type(value) is int and 0 <= value <= MOST


def number(source: object, *path: str) -> int:
    """Return the tokens at a path, or 0 if there is no valid number."""
    for key in path:
        if not isinstance(source, dict):
            return 0
        source = source.get(key)
    return source if type(source) is int and 0 <= source <= MOST else 0


def told(source: object, *path: str) -> bool:
    """Return whether there is a valid number of tokens at a path."""
    for key in path:
        if not isinstance(source, dict):
            return False
        source = source.get(key)
    return sound(source)


def odd(source: Mapping[str, Any], paths: Iterable[tuple[str, ...]]) -> bool:
    """Return whether a value that should be a number of tokens is invalid. Missing values and null are valid."""
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
    """Merge two usage objects: of two numbers the larger, of anything else the newer; null counts as missing.

    Values that do not belong in a ledger are dropped: impossible numbers of tokens, long strings, deep or large
    structures.
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
            # Of two lists, keep the longer one: providers repeat a list with additions.
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
    """Return a name from a provider, or None if it is invalid."""
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_WORD and value.isprintable() else None


def error_type(error: object) -> str:
    """Return the type of a provider's error object. The rest of it is not kept."""
    if isinstance(error, dict):
        for key in ("code", "type"):
            named = error.get(key)
            if isinstance(named, str) and named in ERROR_TYPES:
                return named
    return OTHER_ERROR
