"""What agents had to show, and how often what they can have at any time counts."""

from __future__ import annotations

from typing import get_args

import pytest

from core.crash_points import declare
from database.engine.store import Store
from database.queries.agents import last_results
from database.queries.agents.last_results import AHEAD_S, Kind, VisibleResult

NOTE = declare("test.results.note")
NOW = 1_000_000.0


async def noted(store: Store, kind: Kind, at: float) -> VisibleResult:
    async with store.write(NOTE) as tx:
        await last_results.note(tx, "coder0", kind, at)
        found = await last_results.get(tx, "coder0")
    assert found is not None
    return found


async def test_reports_without_end_count_once(store: Store) -> None:
    assert (await noted(store, "launch", NOW)).kind == "launch"
    assert (await noted(store, "report", NOW + 60)).at == NOW + 60
    for minute in range(2, 10):
        assert (await noted(store, "report", NOW + 60 * minute)).at == NOW + 60
    assert (await noted(store, "commit", NOW + 900)).kind == "commit"
    assert (await noted(store, "report", NOW + 960)).at == NOW + 960


@pytest.mark.parametrize("kind", get_args(Kind))
async def test_a_clock_that_was_ahead_does_not_hide_what_comes(store: Store, kind: Kind) -> None:
    await noted(store, "report", NOW + 365 * 86_400)
    assert (await noted(store, kind, NOW)).at == NOW
    assert (await noted(store, "commit", NOW - AHEAD_S / 2)).at == NOW, "two clocks are never one"
