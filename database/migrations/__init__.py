"""The steps from any earlier schema of the register to that of `database.schema`, run when the register is opened.

A file ``versions/NNNN_words.py`` holds the revision ``NNNN``. The first, `BASELINE`, upgrades all earlier revisions.
While an older process may still run, a migration only adds. Alembic is imported only when it has work to do, because it
costs time and memory.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection
from functools import cache
from pathlib import Path

from sqlalchemy import Connection

from core import sqlite_vacuum
from core.crash_points import around, declare

MIGRATE = declare("register.migrate")

VERSION_TABLE = "alembic_version"

FOLDER = Path(__file__).parent

BASELINE = "0017"
"""The first revision that has a file."""

#: Alembic keeps what it is doing in module globals.
_alembic = threading.Lock()


@cache
def known() -> frozenset[str]:
    """Return every revision that this program knows."""
    files = {file.name.partition("_")[0] for file in (FOLDER / "versions").glob("[0-9]*_*.py")}
    return frozenset(files | {f"{number:04}" for number in range(1, int(BASELINE))})


def head() -> str:
    """Return the revision of `database.schema`."""
    return max(known())


def upgrade(file: Path) -> None:
    """Bring the SQLite database in `file` to `head` in one transaction. Blocking."""
    from sqlalchemy import NullPool, create_engine, event

    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(file, timeout=10, isolation_level=None),
        poolclass=NullPool,
    )

    @event.listens_for(engine, "connect")
    def _(connection: sqlite3.Connection, _record: object) -> None:
        # Of a file with tables it changes nothing.
        connection.execute(sqlite_vacuum.NEW)
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with engine.connect() as connection:
            apply(connection)
            with around(MIGRATE):
                connection.commit()
    except Exception as error:
        # The caller explains the driver's errors; SQLAlchemy wraps them.
        original = getattr(error, "orig", None)
        if isinstance(original, sqlite3.Error):
            raise original from error
        raise
    finally:
        engine.dispose()


def apply(connection: Connection) -> None:
    """Create what is missing on an open connection; the caller commits."""
    from sqlalchemy import inspect

    tables = inspect(connection).get_table_names()
    if tables:
        _run_steps(connection, tables)
    else:
        _create(connection)


def _create(connection: Connection) -> None:
    """Create the schema in an empty database, which takes a third of the time of its steps."""
    from sqlalchemy import Column, MetaData, String, Table

    from database.schema import metadata

    metadata.create_all(connection, checkfirst=False)
    # As Alembic creates it.
    revision = Column("version_num", String(32), primary_key=True)
    version = Table(VERSION_TABLE, MetaData(naming_convention={"pk": "%(table_name)s_pkc"}), revision)
    version.create(connection)
    connection.execute(version.insert().values(version_num=head()))


def _run_steps(connection: Connection, tables: Collection[str]) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import text

    if VERSION_TABLE in tables:
        # Alembic starts at the baseline then, which adds what such a database lacks.
        earlier = text(f"DELETE FROM {VERSION_TABLE} WHERE version_num < :baseline")  # noqa: S608 (our own name)
        connection.execute(earlier, {"baseline": BASELINE})
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _alembic:
        command.upgrade(config, "head")
