"""A process that looks at what is due, to be killed on the way.

Run again without being killed, it ends with 0 if everything stands once.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from core import crash_points
from database.engine.store import Store
from database.queries.operations import posted_reports
from database.schema import findings
from tests.bot.reports.poster import Newsroom, at, window

SETTINGS = "schedules: {daily: '0 9 * * *', fleet: '0 9 * * *'}\n"


async def sweep(folder: Path, url: str) -> None:
    store = await Store.open(url)
    room = Newsroom(store, folder, settings=SETTINGS, started_at=at("2026-11-23 08:00"))
    room.board.put(window(used=0.85))
    down = {"kind": "silent", "agent": "coder1", "cause": "", "event": "w/1", "told_at": 0.0, "tells": 1}
    with contextlib.suppress(Exception):
        await room.insert(findings, key="silent/coder1", found_at=at("2026-11-23 08:30"), **down)
    await room.sweep("2026-11-23 09:00")
    kinds = sorted(text.split("**")[1] for text in await room.posted())
    assert kinds == ["80%", "Daily report", "The fleet"], kinds
    async with store.read() as tx:
        assert len(await posted_reports.of_kind(tx, "down")) == 1
    await store.close()


def live(folder: str, url: str, place: str | None) -> None:
    """Do it, and die at this place."""
    crash_points.arm(place)
    asyncio.run(sweep(Path(folder), url))
