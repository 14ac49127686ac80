"""Reservations, settlements and withdrawals of a whole group, written by one statement.

sqlite3 gives the interpreter's lock away for every statement, and beside a busy event loop each time costs a switch of
threads to get it back: more than the statement itself. So there is a view that holds nothing, and triggers that put
each row where it belongs when it is inserted there. Both are the connection's own, and none of the file's.
"""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from egress.ledger.rows import ENTRY_COLUMNS, WHO, Reservation, Settlement

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

#: At most so many rows go into one statement.
MOST_ROWS: Final = 64

_COLUMNS: Final = ("number", *ENTRY_COLUMNS)
_ROW: Final = f"({','.join('?' * len(_COLUMNS))})"
_who: Final = itemgetter(WHO)
_expected: Final = itemgetter(slice(Reservation._fields.index("input"), Reservation._fields.index("nano_usd")))
#: What an entry says between how much was used and what it cost; of a reservation nobody knows it yet.
_UNKNOWN: Final = (None,) * (Settlement._fields.index("nano_usd") - Settlement._fields.index("reported"))
_NOBODY: Final = (None,) * (len(_COLUMNS) - 1)

_NEW_ENTRY: Final = ", ".join(f"NEW.{column}" for column in ENTRY_COLUMNS)
_NEW_RESERVATION: Final = ", ".join(f"NEW.{column}" for column in Reservation._fields)
_SCRIPT: Final = f"""
CREATE TEMP VIEW feed ({", ".join(_COLUMNS)}) AS SELECT {", ".join(["NULL"] * len(_COLUMNS))} WHERE 0;
CREATE TEMP TRIGGER feed_reservation INSTEAD OF INSERT ON feed WHEN NEW.seq IS NULL AND NEW.id IS NOT NULL BEGIN
    INSERT INTO reservations ({", ".join(Reservation._fields)}) VALUES ({_NEW_RESERVATION});
END;
CREATE TEMP TRIGGER feed_entry INSTEAD OF INSERT ON feed WHEN NEW.seq IS NOT NULL BEGIN
    INSERT INTO entries ({", ".join(ENTRY_COLUMNS)}) VALUES ({_NEW_ENTRY});
    DELETE FROM reservations WHERE number = NEW.number;
END;
CREATE TEMP TRIGGER feed_withdrawal INSTEAD OF INSERT ON feed WHEN NEW.id IS NULL BEGIN
    DELETE FROM reservations WHERE number = NEW.number;
END;
"""  # noqa: S608


def prepare(connection: sqlite3.Connection) -> None:
    """Make a connection ready for `write`."""
    connection.executescript(_SCRIPT)


def reserved(reservation: Reservation) -> tuple[Any, ...]:
    """The row for a new reservation."""
    number, nano_usd = reservation.number, reservation.nano_usd
    return (number, None, *_who(reservation), None, *_expected(reservation), *_UNKNOWN, nano_usd)


def settled(seq: int, settlement: Settlement) -> tuple[Any, ...]:
    """The row for an entry, in the place of its reservation."""
    reservation = settlement.reservation
    return (reservation.number, seq, *_who(reservation), *settlement[1:])


def withdrawn(number: int) -> tuple[Any, ...]:
    """The row for a reservation of which nothing is to be kept."""
    return (number, *_NOBODY)


def write(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write rows in their order. Up to MOST_ROWS are one statement: outside of a transaction, all of them or none."""
    for place in range(0, len(rows), MOST_ROWS):
        some = rows[place : place + MOST_ROWS]
        insert = f"INSERT INTO feed VALUES {','.join([_ROW] * len(some))}"  # noqa: S608
        connection.execute(insert, tuple(chain.from_iterable(some)))
