"""The ledger's tables, and opening its file.

Everything that has happened is in one file, so that any change needs only one transaction. Running requests are in
files next to it (`reservation_log`). The schema only grows: a version adds a script to `_SCRIPTS` and changes no
earlier one. A table that older versions do not need goes into `_BESIDE` instead.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from core import sqlite_vacuum
from core.errors import MusterError

APPLICATION_ID: Final = 0x4D554C45
"""Distinguishes this file from other SQLite files (``MULE``)."""

_FIRST: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('ledger', lower(hex(randomblob(16)))), ('summed', 0), ('probed', 0);

CREATE TABLE incarnations (number INTEGER PRIMARY KEY, nonce TEXT NOT NULL, started_at REAL NOT NULL);

CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, tenant_id TEXT NOT NULL, host TEXT NOT NULL, agent TEXT NOT NULL,
    launch_id TEXT NOT NULL, role TEXT NOT NULL, profile TEXT NOT NULL, profiles TEXT NOT NULL, session TEXT, turn TEXT,
    task TEXT, account TEXT NOT NULL, provider TEXT NOT NULL, api TEXT NOT NULL, model_asked TEXT,
    attempt INTEGER NOT NULL, started_at REAL NOT NULL, model TEXT, input INTEGER NOT NULL, output INTEGER NOT NULL,
    cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, reasoning INTEGER NOT NULL, reported INTEGER NOT NULL,
    raw TEXT, status INTEGER, ended TEXT NOT NULL, detail TEXT, ended_at REAL NOT NULL, first_byte_s REAL,
    total_s REAL NOT NULL, nano_usd INTEGER
);

CREATE TABLE hours (
    hour INTEGER NOT NULL, agent TEXT NOT NULL, launch_id TEXT NOT NULL, account TEXT NOT NULL, provider TEXT NOT NULL,
    profiles TEXT NOT NULL, requests INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
    cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, reasoning INTEGER NOT NULL, nano_usd INTEGER NOT NULL,
    first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
    PRIMARY KEY (hour, agent, launch_id, account, provider, profiles)
) WITHOUT ROWID;

CREATE TABLE observations (
    account TEXT NOT NULL, provider TEXT NOT NULL, "window" TEXT NOT NULL, seen_at REAL NOT NULL, used REAL,
    "limit" REAL, remaining REAL, reset_at REAL, window_s REAL, status TEXT, change INTEGER NOT NULL,
    PRIMARY KEY (account, provider, "window")
) WITHOUT ROWID;
CREATE INDEX observations_by_change ON observations (change);

CREATE TABLE actions (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, at REAL NOT NULL, agent TEXT NOT NULL, action TEXT NOT NULL,
    cause TEXT NOT NULL, "by" TEXT NOT NULL, result TEXT NOT NULL, detail TEXT NOT NULL
);

CREATE TABLE denials (
    agent TEXT PRIMARY KEY, action TEXT NOT NULL, cause TEXT NOT NULL, "by" TEXT NOT NULL, id TEXT NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE agents (name TEXT PRIMARY KEY, registration TEXT NOT NULL) WITHOUT ROWID;
"""

_SCRIPTS: Final = (_FIRST,)

#: Tables that an older egress of the same schema version ignores, so that it can replace this one again.
_BESIDE: Final = """
CREATE TABLE IF NOT EXISTS role_hours (
    hour INTEGER NOT NULL, role TEXT NOT NULL, account TEXT NOT NULL, requests INTEGER NOT NULL, input INTEGER NOT NULL,
    output INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, reasoning INTEGER NOT NULL,
    nano_usd INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, PRIMARY KEY (hour, role, account)
) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('summed_roles', 0);
"""
VERSION: Final = len(_SCRIPTS)

#: There is no other writer, but a person who inspects the file may lock it briefly.
_BUSY_S: Final = 1.0
#: The writer uses one statement for each number of rows.
_STATEMENTS: Final = 256


class LedgerUnusable(MusterError):
    """The ledger cannot be opened as it is."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the file, created or upgraded if needed; every commit is on disk before it returns.

    Raises:
        LedgerUnusable: a newer Muster wrote it, it is not a ledger, or it cannot be written.
    """
    try:
        # SQLite gives its companion files the permissions of the file itself. One that exists is not opened: closing it
        # would take away this process's locks on it (fcntl(2)).
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS
        )
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnusable(f"The ledger {path} cannot be opened: {error}.") from None
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise LedgerUnusable(
            f"The ledger {path} cannot be used: {error}. Is the disk full, is the file another user's or damaged?"
        ) from None
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open an existing file read-only."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise LedgerUnusable(f"{path} is no ledger of Muster's. Move it away, and the egress begins a new one.")
    if version > VERSION:
        raise LedgerUnusable(
            f"The ledger {path} was written by a newer Muster: its schema is version {version}, and this one supports "
            f"versions up to {VERSION}. Start the newer Muster again; a ledger cannot be downgraded."
        )
    if tables:
        sqlite_vacuum.convert(connection, path)
    else:
        connection.execute(sqlite_vacuum.NEW)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")
    for number in range(version, VERSION):
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID};"
            f"{_SCRIPTS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
        )
    known = connection.execute("SELECT count(*) FROM meta WHERE key = 'summed_roles'").fetchone()[0]
    if not known:
        connection.executescript(f"BEGIN IMMEDIATE;{_BESIDE} COMMIT;")
