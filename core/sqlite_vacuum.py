"""The release of unused pages of an SQLite file (https://www.sqlite.org/pragma.html#pragma_auto_vacuum).

SQLite keeps the pages of deleted rows and reuses them later. A file with ``auto_vacuum = INCREMENTAL`` can return them
to the disk in steps. Only a new file can get this setting. An older file must be rewritten once, which `convert` does
when the file is opened.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Final

import structlog

_log = structlog.get_logger(__name__)

#: The first statement on a connection to an empty file.
NEW: Final = "PRAGMA auto_vacuum = INCREMENTAL"
#: The maximum size of a file that is rewritten when it is opened; takes some seconds at the limit.
MOST_BYTES: Final = 512 * 2**20
#: The maximum number of pages that one step releases (4 MB); takes some milliseconds.
PAGES: Final = 1000
#: The number of free pages that remain for the rows of the next days.
SPARE: Final = 1000
_INCREMENTAL: Final = 2


def give_back(free: int) -> int:
    """Return how many of `free` pages the next step should release."""
    return max(0, min(PAGES, free - SPARE))


def step(connection: sqlite3.Connection) -> None:
    """Release some pages within the open transaction. Blocking."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    for _ in range(give_back(free)):
        # For a larger number Python would release only the first page: it fetches no rows without columns.
        connection.execute("PRAGMA incremental_vacuum(1)")


def script(pages: int) -> str:
    """Return the statements that release `pages` pages in a transaction of their own, for `executescript`."""
    return f"BEGIN IMMEDIATE; PRAGMA incremental_vacuum({pages}); COMMIT"


def convert(connection: sqlite3.Connection, file: Path) -> bool:
    """Rewrite an older file so that it can shrink from now on; return whether this was done. Blocking.

    Another process that has the file open, a full disk or a very large file prevents this. The file then remains
    usable and grows as before.
    """
    size = file.stat().st_size
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] == _INCREMENTAL or size > MOST_BYTES:
        return False
    # VACUUM writes the new content to a temporary file and to the write-ahead log.
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
