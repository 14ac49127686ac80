"""Inserts the entries of a whole group with one statement.

sqlite3 releases the GIL for every statement. Next to a busy event loop, reacquiring it costs a thread switch, which is
more than the statement itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from egress.ledger.table_rows import ENTRY_COLUMNS, WHO, Settlement

#: The maximum number of rows in one statement.
MOST_ROWS: Final = 64

_ROW: Final = f"({','.join('?' * len(ENTRY_COLUMNS))})"
_INSERT: Final = f"INSERT INTO entries ({', '.join(ENTRY_COLUMNS)}) VALUES "  # noqa: S608
_who: Final = itemgetter(WHO)


def settled(seq: int, settlement: Settlement) -> tuple[Any, ...]:
    """Return the row of an entry."""
    return (seq, *_who(settlement.reservation), *settlement[1:])


def write(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows in order. Up to MOST_ROWS are one statement, which is atomic even outside a transaction."""
    for place in range(0, len(rows), MOST_ROWS):
        some = rows[place : place + MOST_ROWS]
        connection.execute(_INSERT + ",".join([_ROW] * len(some)), tuple(chain.from_iterable(some)))
