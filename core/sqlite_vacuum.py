"""Giving back what a database file of SQLite no longer needs (https://www.sqlite.org/pragma.html#pragma_auto_vacuum).

SQLite keeps the pages of deleted rows and fills them later. A file with ``auto_vacuum = INCREMENTAL`` can give them
back to the disk step by step. Only a new file can be made so; an older one must be rewritten once, which `convert`
does when the file is opened.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from pathlib import Path

_log = structlog.get_logger(__name__)

#: For a connection to an empty file, before anything else is done with it.
NEW: Final = "PRAGMA auto_vacuum = INCREMENTAL"
#: Files up to this size are rewritten when they are opened: some seconds at the limit.
MOST_BYTES: Final = 512 * 2**20
#: Pages that one step gives back (4 MB): some milliseconds.
PAGES: Final = 1000
#: Free pages up to this number stay, for the rows of the next days.
_SPARE: Final = 1000
_INCREMENTAL: Final = 2


def give_back(free: int) -> int:
    """Return how many of so many free pages the next step should give back."""
    return max(0, min(PAGES, free - _SPARE))


def step(connection: sqlite3.Connection) -> None:
    """Give some pages back, within the transaction that is open. Blocking."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    for _ in range(give_back(free)):
        # Of a larger number Python would do the first page alone: it fetches no rows without columns.
        connection.execute("PRAGMA incremental_vacuum(1)")


def script(pages: int) -> str:
    """Return the statements that give so many pages back in a transaction of their own, for `executescript`."""
    return f"BEGIN IMMEDIATE; PRAGMA incremental_vacuum({pages}); COMMIT"


def convert(connection: sqlite3.Connection, file: Path) -> bool:
    """Write an older file again, so that it can shrink from now on; return whether that was done. Blocking.

    Where it cannot be done now (another process has the file open, the disk has no room, the file is very large), the
    file stays as it is, and grows and is used as before.
    """
    size = file.stat().st_size
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] == _INCREMENTAL or size > MOST_BYTES:
        return False
    # The new content goes through a temporary file and the write-ahead log.
    if shutil.disk_usage(os.path.dirname(file)).free < 3 * size:
        _log.info("file.not_shrinkable", file=str(file), reason="there is little room on its disk")
        return False
    try:
        connection.execute(NEW)
        connection.execute("VACUUM")
    except sqlite3.Error as error:
        _log.info("file.not_shrinkable", file=str(file), reason=str(error))
        return False
    return True
