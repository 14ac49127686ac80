"""Pages of the ledger for copying, over a read-only connection in a separate thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from budget.tokens import Tokens
from egress.ledger import schema, table_rows
from egress.ledger.model import Action, LedgerEntry, Observation

_T = TypeVar("_T")

#: The maximum length of a page: the event loop has to serialize it.
MOST_ROWS = 1000


class PastRequest(NamedTuple):
    """The usage of a past request, for estimates."""

    role: str
    model: str
    tokens: Tokens


class Reader:
    """Reads the ledger without waiting for the writer or delaying it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "ledger reader")
        self._connection: sqlite3.Connection | None = None

    async def entries_after(self, seq: int, limit: int) -> list[LedgerEntry]:
        """Return the entries after `seq`, in order and without gaps, at most `limit`."""
        return await self._page(
            "SELECT * FROM entries WHERE seq > ? ORDER BY seq LIMIT ?", seq, limit, table_rows.entry
        )

    async def actions_after(self, seq: int, limit: int) -> list[Action]:
        """Return the actions after `seq`, in order and without gaps, at most `limit`."""
        return await self._page(
            "SELECT * FROM actions WHERE seq > ? ORDER BY seq LIMIT ?", seq, limit, table_rows.action
        )

    async def observations_after(self, change: int, limit: int) -> list[tuple[int, Observation]]:
        """Return the observations after `change`, with their change numbers; only the latest of each window is kept."""
        query = "SELECT * FROM observations WHERE change > ? ORDER BY change LIMIT ?"
        return await self._page(query, change, limit, lambda row: (row["change"], table_rows.observation(row)))

    async def learned(self, limit: int) -> list[PastRequest]:
        """Return the provider-reported usage of recent requests, oldest first. `limit` bounds the examined entries."""
        query = (
            "SELECT role, coalesce(model_asked, '') AS asked, input, output, cache_read, cache_write, reasoning FROM "
            "(SELECT * FROM entries ORDER BY seq DESC LIMIT ?) WHERE reported AND ended = 'completed' ORDER BY seq"
        )
        return await self._do(lambda connection: [_learned(row) for row in connection.execute(query, (limit,))])

    async def close(self) -> None:
        await self._do(lambda connection: connection.close())
        self._thread.shutdown()

    async def _page(self, query: str, after: int, limit: int, make: Callable[[Any], _T]) -> list[_T]:
        bounds = (after, max(0, min(limit, MOST_ROWS)))
        return await self._do(lambda connection: [make(row) for row in connection.execute(query, bounds)])

    async def _do(self, act: Callable[[sqlite3.Connection], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: act(self._connected()))

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = schema.open_for_reading(self._path)
        return self._connection


def _learned(row: Any) -> PastRequest:
    return PastRequest(
        role=row["role"],
        model=row["asked"],
        tokens=table_rows.tokens_of(row),
    )
