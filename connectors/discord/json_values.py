"""Values in Discord's JSON. They were written by anybody, so each may be of any type, and nothing here raises."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

_ID = re.compile(r"[1-9][0-9]{0,19}")


def identifier(value: object) -> str | None:
    """Return an id, if it is one."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def json_object(value: object) -> Json:
    """Return an object; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def json_objects(value: object) -> list[Json]:
    """Return a list of objects; an empty list, and empty objects, in place of anything else."""
    return [json_object(each) for each in value] if isinstance(value, list) else []


def string(value: object) -> str:
    """Return a clean string; an empty one in place of anything else."""
    return clean(value) if isinstance(value, str) else ""


def clean(text: str) -> str:
    """Text that every database and every encoder takes: no NUL, no halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
