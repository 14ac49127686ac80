"""A small bot for kill tests: a process in an encrypted room of a real homeserver, which is killed and runs again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from connectors.matrix.connector import MatrixConnector
from connectors.matrix.settings import MatrixSettings
from database.engine.store import Store
from tests.connectors import crash_runs


async def main(register_url: str, settings: dict[str, Any], folder: str, events: int) -> None:
    """Live until `events` events are dealt with."""
    store = await Store.open(register_url)
    connector = MatrixConnector(
        "matrix", MatrixSettings.model_validate(settings), Path(folder), may_invite=_anybody, may_read=_anybody
    )
    await crash_runs.lead(store, connector, events)
    await store.close()


async def _anybody(person: str, groups: Sequence[str] = ()) -> bool:
    return True
