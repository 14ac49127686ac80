"""Removal of error texts from providers that earlier versions saved: some providers repeat the account's key in them.

An entry has only the type of an error (egress.ledger.model.ERROR_TYPES). An earlier egress wrote sentences, and may
replace this one again for a while. So each start checks the entries since the last start.
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
    """Remove such text from the entries, and from unused parts of the file.

    The entries are clean when this returns. If there is no space to rewrite the file, the next start tries again. Until
    then, old text may remain in parts of the file that no entry uses.

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
        # Freed pages may still contain such text, and so may the write-ahead log.
        connection.execute("VACUUM")
        connection.execute("UPDATE meta SET value = 0 WHERE key = 'rewrite'")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        _log.warning("ledger_not_rewritten", error=str(error))
    else:
        _log.info("provider_text_blanked", entries=blanked)
