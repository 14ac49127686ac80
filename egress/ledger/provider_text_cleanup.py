"""Blanking what earlier versions kept of providers' errors: their text, in which some repeat the account's key.

What an entry says of an error is its type (egress.ledger.model.ERROR_TYPES). An egress of before wrote sentences, and
may take this one's place again for a while; so at each start the entries since the last one are looked through.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Final

import structlog

from egress.ledger.model import ERROR_TYPES

_log = structlog.get_logger(__name__)

_TYPES: Final = json.dumps(sorted(ERROR_TYPES))


def blank(connection: sqlite3.Connection) -> None:
    """Take such text out of the entries, and out of what the file keeps of them.

    The entries are blank when this returns. Where there is no room to write the file again, it is tried at the next
    start: until then, old text may be in parts of the file that no entry uses.

    Raises:
        sqlite3.Error: the entries cannot be read or written.
    """
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('blanked', 0), ('rewrite', 0)")
    blanked = connection.execute(
        "UPDATE entries SET detail = NULL WHERE seq > (SELECT value FROM meta WHERE key = 'blanked')"
        " AND detail IS NOT NULL AND detail NOT IN (SELECT value FROM json_each(?))",
        (_TYPES,),
    ).rowcount
    connection.execute("UPDATE meta SET value = (SELECT coalesce(max(seq), 0) FROM entries) WHERE key = 'blanked'")
    if blanked:
        connection.execute("UPDATE meta SET value = 1 WHERE key = 'rewrite'")
    connection.execute("COMMIT")
    (rewrite,) = connection.execute("SELECT value FROM meta WHERE key = 'rewrite'").fetchone()
    if not rewrite:
        return
    try:
        # Pages that were freed before may still hold such text, and so may the write-ahead log.
        connection.execute("VACUUM")
        connection.execute("UPDATE meta SET value = 0 WHERE key = 'rewrite'")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        _log.warning("ledger_not_rewritten", error=str(error))
    else:
        _log.info("provider_text_blanked", entries=blanked)
