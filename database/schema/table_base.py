"""What every table has: the one `metadata`, and the columns that say whose a row is."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table
from sqlalchemy.engine.default import DefaultExecutionContext

from database.schema.text_types import String

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

#: An integer key that counts up; SQLite counts only plain INTEGER keys.
Counter = BigInteger().with_variant(Integer, "sqlite")


def stamp(option: str) -> Any:
    """Return a column's default: what `database.engine.store` put under this name for the connection that inserts."""

    def default(context: DefaultExecutionContext) -> str | None:
        value: str | None = context.execution_options[option]
        return value

    return default


def table(name: str, *items: Any, **options: Any) -> Table:
    """Return a table of the register, with the columns that each of them has."""
    return Table(
        name,
        metadata,
        *items,
        Column("tenant_id", String, nullable=False, default=stamp("tenant_id")),
        Column("host", String, nullable=False, default=stamp("host")),
        **options,
    )
