"""Opening the ledger: restores agents and denials, and enters the previous egress's running requests as estimates."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from core.crash_points import around, declare
from egress.ledger import batch_insert, hourly_aggregates, provider_text_cleanup, schema
from egress.ledger import reservation_log as intents
from egress.ledger.model import EGRESS_ENDED
from egress.ledger.reservation_log import ReservationLog
from egress.ledger.table_rows import Denial, Reservation, estimated
from egress.settings import AgentRegistration

RECOVER: Final = declare("ledger.recover")

_log = structlog.get_logger(__name__)


class RecoveredLedger:
    """The contents of the ledger's file and of the reservation files."""

    intents: ReservationLog

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.nonce = secrets.token_hex(8)
        self.incarnation = 0
        self.recovered = 0
        self.ledger: str = connection.execute("SELECT value FROM meta WHERE key = 'ledger'").fetchone()[0]
        self.denials = {row[0]: Denial(*row) for row in connection.execute("SELECT * FROM denials")}
        self.agents: dict[str, AgentRegistration] = {}
        for name, text in connection.execute("SELECT name, registration FROM agents"):
            try:
                self.agents[name] = AgentRegistration.model_validate_json(text)
            except ValidationError as error:
                _log.warning("agent_unreadable", agent=name, errors=error.error_count())


def open_ledger(path: Path, now: float, long: int) -> RecoveredLedger:
    """Open the file, and enter the requests that were running when the previous egress ended.

    Args:
        path: the ledger's file.
        now: seconds since the epoch.
        long: the size in bytes at which a new reservation file starts.

    Raises:
        LedgerUnusable: the file cannot be opened as it is.
    """
    connection = schema.open_for_writing(path)
    try:
        provider_text_cleanup.blank(connection)
        opened = RecoveredLedger(connection)
        after, pending, files = intents.pending(path, opened.ledger)
        with around(RECOVER):
            connection.execute("BEGIN IMMEDIATE")
            opened.recovered = _recover(connection, after, pending, now)
            opened.incarnation = (
                connection.execute(
                    "INSERT INTO incarnations (nonce, started_at) VALUES (?, ?)", (opened.nonce, now)
                ).lastrowid
                or 0
            )
            hourly_aggregates.advance(connection)
            connection.execute("COMMIT")
        intents.remove(path, files)
        (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()
        opened.intents = ReservationLog(path, id=opened.ledger, after=last, long=long)
    except (sqlite3.Error, OSError) as error:
        connection.close()
        raise schema.LedgerUnusable(
            f"The ledger {path} cannot be written: {error}. Is its disk full, or a file beside it another user's?"
        ) from None
    except BaseException:
        connection.close()
        raise
    return opened


def _recover(connection: sqlite3.Connection, after: int, pending: Sequence[Reservation], now: float) -> int:
    """Enter the running requests of the previous egress as estimates, and return their number.

    They are entered in the order of admission. They end at the last moment at which that egress is known to have run.
    So they count in the window in which they were used, however much later the egress restarts.

    Args:
        connection: a connection within a transaction.
        after: the entries of ended requests have higher seqs.
        pending: the reservations; some of their requests may have ended.
        now: seconds since the epoch.
    """
    last, heard = connection.execute(
        "SELECT coalesce(max(seq), 0), coalesce(max(ended_at), 0) FROM"
        " (SELECT seq, ended_at FROM entries ORDER BY seq DESC LIMIT 100)"
    ).fetchone()
    if after > last:
        # An older copy of the ledger was restored, so seqs are assigned a second time.
        after = 0
    open_ = {reservation.id: reservation for reservation in pending}
    for (id_,) in connection.execute("SELECT id FROM entries WHERE seq > ?", (after,)) if open_ else ():
        open_.pop(id_, None)
    under_way = list(open_.values())
    if not under_way:
        return 0
    lived = min(max(heard, *(reservation.started_at for reservation in under_way)), now)
    batch_insert.write(
        connection,
        [
            batch_insert.settled(seq, estimated(each, lived, EGRESS_ENDED))
            for seq, each in enumerate(under_way, last + 1)
        ],
    )
    return len(under_way)
