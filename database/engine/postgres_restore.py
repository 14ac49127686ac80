"""A register in an SQLite file put in place of the one on a PostgreSQL server, which is kept under another name.

All of it is one transaction: the schema is renamed, made again and filled, or nothing is changed. The name of the kept
schema says afterwards that it was done.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text

from core.crash_points import around, declare
from database.engine import database_copy
from database.engine.dsn import ServerAddress
from database.engine.postgres import make_tables
from database.engine.postgres_connection import SCHEMA, ServerAccess
from database.engine.store import Store

REPLACE = declare("register.replace")

_EXISTS = text("SELECT to_regnamespace(:schema) IS NOT NULL")


async def replace(
    address: ServerAddress,
    password: Callable[[], str] | None,
    file: Path,
    *,
    kept: str,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> None:
    """Put the register in `file` onto the server; what is there is kept as the schema `kept`.

    Raises:
        RegisterError: the server cannot be used, or someone has the register open. Nothing is changed.
    """
    _check(kept)
    source = await Store.open(f"sqlite:///{file}", alone=True)
    access = ServerAccess(address, password, "restore")
    try:
        async with access.engine(alone=True) as engine, engine.connect() as tx:
            if await tx.scalar(_EXISTS, {"schema": SCHEMA}):
                await tx.exec_driver_sql(f"ALTER SCHEMA {SCHEMA} RENAME TO {kept}")
            else:
                await tx.exec_driver_sql(f"CREATE SCHEMA {kept}")  # by which it is known that this was done
            await tx.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
            await tx.run_sync(make_tables)
            async with source.read() as reading:
                await database_copy.copy_rows(reading, tx, access.place, progress)
            with around(REPLACE):
                await tx.commit()
    finally:
        await source.close()


async def is_kept(address: ServerAddress, password: Callable[[], str] | None, kept: str) -> bool:
    """Return whether `replace` was done that keeps what was there as the schema `kept`.

    Raises:
        RegisterError: the server cannot be asked.
    """
    _check(kept)
    async with ServerAccess(address, password, "restore").engine() as engine, engine.connect() as tx:
        return bool(await tx.scalar(_EXISTS, {"schema": kept}))


def _check(kept: str) -> None:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", kept):
        raise ValueError(f"no name for a schema: {kept!r}")
