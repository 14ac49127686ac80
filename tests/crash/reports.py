"""Killed while it posts what is due, Muster posts what is missing afterwards, and nothing twice."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from bot.reports.poster import POST, REMEMBER
from database.engine.store import Store
from database.queries.operations import posted_reports
from database.schema import findings
from tests.bot.reports.poster import Newsroom, at, window
from tests.crash.deaths import Subject, both, each

SETTINGS = "schedules: {daily: '0 9 * * *', fleet: '0 9 * * *'}\n"


async def _room(folder: Path) -> Newsroom:
    store = await Store.open(f"sqlite:///{folder / 'register.db'}")
    return Newsroom(store, folder, settings=SETTINGS, started_at=at("2026-11-23 08:00"))


async def sweep(folder: Path) -> None:
    room = await _room(folder)
    room.board.put(window(used=0.85))
    down = {"kind": "silent", "agent": "coder1", "cause": "", "event": "w/1", "told_at": 0.0, "tells": 1}
    with contextlib.suppress(Exception):
        await room.insert(findings, key="silent/coder1", found_at=at("2026-11-23 08:30"), **down)
    await room.sweep("2026-11-23 09:00")
    await room.store.close()


async def once(folder: Path) -> None:
    room = await _room(folder)
    kinds = sorted(text.split("**")[1] for text in await room.posted())
    assert kinds == ["80%", "Daily report", "The fleet"], kinds
    async with room.store.read() as tx:
        assert len(await posted_reports.of_kind(tx, "down")) == 1
    await room.store.close()


#: On one register, one after the other; each passage is the first that is still to be made.
REPORTS = Subject(script=sweep, invariant=once, walks=[both(REMEMBER, POST, POST, POST)])
#: On a register each. Steps are passed for three messages, and for two kinds of things that are remembered.
EACH_REPORT = replace(
    REPORTS,
    walks=each(
        *(f"{place}:{passage}" for place in both(POST) for passage in (1, 2, 3)),
        *(f"{place}:{passage}" for place in both(REMEMBER) for passage in (1, 2)),
    ),
    marks=(pytest.mark.soak,),
)
