"""Rows of tables as values."""

from __future__ import annotations

from dataclasses import Field
from typing import Any, ClassVar, Self

from sqlalchemy import Executable, Row
from sqlalchemy.ext.asyncio import AsyncConnection


class Record:
    """Base of a dataclass whose fields are named as a table's columns are."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        return cls(**{name: row._mapping[name] for name in cls.__dataclass_fields__})

    def columns(self) -> dict[str, Any]:
        """Return the values by the columns' names."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    async def one(cls, tx: AsyncConnection, query: Executable) -> Self | None:
        """Return the only row of a query, or None if it has none."""
        row = (await tx.execute(query)).one_or_none()
        return None if row is None else cls.from_row(row)

    @classmethod
    async def every(cls, tx: AsyncConnection, query: Executable) -> list[Self]:
        """Return all rows of a query, in its order."""
        return [cls.from_row(row) for row in await tx.execute(query)]
