"""How lines of the audit log are chained: each has a digest of itself and of the line before. Pure.

The digest covers everything in a line but its number. Numbers order the lines, and lines that change places no longer
follow each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from database.schema.text_types import storable

#: What the first line follows.
BEGIN: Final = "0" * 64

#: The columns that a digest covers, in their order in it.
COVERED: Final = ("key", "at", "identity", "through", "door", "connector", "conversation", "action", "arguments",
                  "outcome", "detail", "tenant_id", "host")  # fmt: skip


def digest(before: str, line: Mapping[str, Any]) -> str:
    """Return the digest of a line that follows another.

    Args:
        before: the digest of the line before.
        line: the values of the columns, as they are written or read.
    """
    values = [_stored(line[name]) for name in COVERED]
    return hashlib.sha256(f"{before}\n{json.dumps(values, sort_keys=True, separators=(',', ':'))}".encode()).hexdigest()


def _stored(value: Any) -> Any:
    """Return a value as it is read back."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
