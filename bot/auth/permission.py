"""What a person may do."""

from __future__ import annotations

from enum import IntEnum


class Permission(IntEnum):
    """What a person may do. Each includes those below it."""

    NONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @classmethod
    def named(cls, word: str) -> Permission:
        """Return the permission called `word` (``viewer``). Raises `KeyError` when there is none of that name."""
        return cls[word.upper()]

    def __str__(self) -> str:
        return self.name.lower()


NONE, VIEWER, OPERATOR, ADMIN = Permission
