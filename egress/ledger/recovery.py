"""Opening the ledger: who was known and closed out, and what the egress before had under way, as estimates."""

from __future__ import annotations

import secrets
import sqlite3
from typing import TYPE_CHECKING, Final

import structlog
from pydantic import ValidationError

from core.crash_points import around, declare
from egress.ledger import batch_insert, hourly_aggregates, provider_text_cleanup, schema
from egress.ledger import reservation_log as intents
from egress.ledger.model import EGRESS_ENDED
from egress.ledger.reservation_log import Intents
from egress.ledger.table_rows import Denial, estimated
from egress.settings import AgentRegistration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from egress.ledger.table_rows import Reservation

RECOVER: Final = declare("ledger.recover")

_log = structlog.get_logger(__name__)


class RecoveredLedger:
    """What was found in the file, and beside it."""

    intents: Intents

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
    """Open the file, and enter what was under way when the last egress ended.

    Args:
        path: of the ledger.
        now: seconds since the epoch.
        long: how long a file of what is under way gets, bytes.

    Raises:
        LedgerUnusable: it cannot be opened as it is.
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
        opened.intents = Intents(path, id=opened.ledger, after=last, long=long)
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
    """Enter what the egress that ended had under way, estimated, in the order of admission.

    They end at the last moment at which that egress is known to have lived: so they count in the window in which they
    were used, however much later it comes back.

    Args:
        connection: within a transaction.
        after: the entries of what has ended have higher seqs.
        pending: what was reserved; some of it may have ended.
        now: seconds since the epoch.
    """
    last, heard = connection.execute(
        "SELECT coalesce(max(seq), 0), coalesce(max(ended_at), 0) FROM"
        " (SELECT seq, ended_at FROM entries ORDER BY seq DESC LIMIT 100)"
    ).fetchone()
    if after > last:
        # An earlier copy of the ledger was put in its place: seqs are given a second time.
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
