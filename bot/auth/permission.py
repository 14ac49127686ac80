"""Permission levels of people."""

from __future__ import annotations

from enum import IntEnum


class Permission(IntEnum):
    """A permission level. Each level includes the lower ones."""

    NONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @classmethod
    def named(cls, word: str) -> Permission:
        """Return the permission named `word` (``viewer``). Raises `KeyError` if there is none."""
        return cls[word.upper()]

    def __str__(self) -> str:
        return self.name.lower()


NONE, VIEWER, OPERATOR, ADMIN = Permission
