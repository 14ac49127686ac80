"""Which revision of the schema a register has, asked without touching it: by a program that may not know it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from core.errors import RegisterError
from database import migrations
from database.engine import dsn as addresses
from database.engine import sqlite


async def of(url: str, *, password: Callable[[], str] | None = None) -> str | None:
    """Return the revision of the register at `url`; None where there is none yet.

    Raises:
        RegisterError: it cannot be asked.
    """
    address = addresses.parse(url)
    if isinstance(address, addresses.FileAddress):
        return await asyncio.to_thread(_of_file, address.file)
    from database.engine.postgres import looking
    from database.engine.postgres_connection import SCHEMA, ServerAccess

    async with looking(ServerAccess(address, password, "update")) as engine, engine.connect() as tx:
        table = f"{SCHEMA}.{migrations.VERSION_TABLE}"
        if not await tx.scalar(text("SELECT to_regclass(:table) IS NOT NULL"), {"table": table}):
            return None
        return str(await tx.scalar(text(f"SELECT version_num FROM {table}")))  # noqa: S608 (constants)


def _of_file(file: Path) -> str | None:
    if not file.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=10)) as connection:
            row = connection.execute(f"SELECT version_num FROM {migrations.VERSION_TABLE}").fetchone()  # noqa: S608 (a constant)
    except sqlite3.Error as error:
        raise sqlite.refusal(file, error) or RegisterError(f"{file} cannot be read: {error}.") from error
    return None if row is None else str(row[0])
