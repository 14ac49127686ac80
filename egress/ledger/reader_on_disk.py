"""Reads the ledger of an egress that does not run or does not answer, without changing it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from budget.tokens import Tokens
from egress.ledger import hourly_aggregates, schema, table_rows
from egress.ledger.hourly_aggregates import Used
from egress.ledger.model import Action, Observation
from egress.settings import AgentRegistration


class LedgerOnDisk:
    """A ledger's file, open for reading.

    What was under way when its egress ended is not in it: the next egress enters that as an estimate.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator[LedgerOnDisk]:
        """Open a file for the block.

        Raises:
            LedgerUnusable: there is none, or it cannot be read.
        """
        try:
            connection = schema.open_for_reading(path)
        except sqlite3.Error as error:
            raise _unreadable(path, error) from None
        with contextlib.closing(connection):
            try:
                # All that is read belongs to one moment, even while an egress writes.
                connection.execute("BEGIN")
                if connection.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
                    raise schema.LedgerUnusable(f"{path} is no ledger of Muster's.")
                yield cls(connection)
            except sqlite3.Error as error:
                raise _unreadable(path, error) from None

    def last_at(self) -> float | None:
        """Return when the last request ended, or None if there was none."""
        (at,) = self._connection.execute("SELECT max(ended_at) FROM entries").fetchone()
        return None if at is None else float(at)

    def agents(self) -> list[AgentRegistration]:
        """Return the agents that are served, without those that cannot be read."""
        found = []
        for (text,) in self._connection.execute("SELECT registration FROM agents ORDER BY name"):
            with contextlib.suppress(ValidationError):
                found.append(AgentRegistration.model_validate_json(text))
        return found

    def used_since(self, start: float) -> list[Used]:
        """Return the usage from `start` on, by agent and by role (`hourly_aggregates.since`)."""
        found = hourly_aggregates.since(self._connection, start)
        # The sums are written by the egress, and lack its last entries.
        for position, roles in (("summed", False), ("summed_roles", True)):
            (summed,) = self._connection.execute("SELECT value FROM meta WHERE key = ?", (position,)).fetchone()
            for row in self._connection.execute(
                "SELECT * FROM entries WHERE seq > ? AND ended_at >= ?", (summed, start)
            ):
                if not roles or row["role"]:
                    found.append(_used(row, by_role=roles))
        return found

    def observations(self) -> list[Observation]:
        """Return the latest observation of each window."""
        query = 'SELECT * FROM observations ORDER BY account, "window"'
        return [table_rows.observation(row) for row in self._connection.execute(query)]

    def actions_since(self, at: float, *, limit: int) -> list[Action]:
        """Return the actions since a time, the newest first."""
        query = "SELECT * FROM actions WHERE at >= ? ORDER BY seq DESC LIMIT ?"
        return [table_rows.action(row) for row in self._connection.execute(query, (at, limit))]


def _used(row: sqlite3.Row, *, by_role: bool) -> Used:
    return Used(
        agent="" if by_role else row["agent"],
        launch_id="" if by_role else row["launch_id"],
        account=row["account"],
        provider="" if by_role else row["provider"],
        profiles=tuple(row["profiles"].split(",")) if row["profiles"] and not by_role else (),
        requests=1,
        tokens=Tokens(
            input=row["input"],
            output=row["output"],
            cache_read=row["cache_read"],
            cache_write=row["cache_write"],
            reasoning=row["reasoning"],
        ),
        nano_usd=row["nano_usd"] or 0,
        role=row["role"] if by_role else "",
    )


def _unreadable(path: Path, error: sqlite3.Error) -> schema.LedgerUnusable:
    return schema.LedgerUnusable(f"The ledger {path} cannot be read: {error}.")
