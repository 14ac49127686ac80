"""Lines, what befell windows, and leave to spend faster are kept on both kinds of database."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from sqlalchemy import insert

from budget.windows.even_spread_line import EvenSpreadLine
from core.crash_points import declare
from database.engine.store import Store
from database.queries import tasks
from database.queries.spending import limits_by_command, pacing_windows
from database.queries.spending.limits_by_command import BudgetRow
from database.queries.spending.pacing_windows import AuthorizationRow, Befell
from database.queries.task_states import TaskEvent
from database.queries.tasks import Task
from database.schema import quota_history

STEP = declare("tests.pacing")


def line(at: float) -> dict[str, Any]:
    return asdict(
        EvenSpreadLine(window="host/tokens/day", drawn_at=at, drawn_used=1.5, limit=9.0, resets_at=None, cause="first")
    )


async def test_a_window_has_one_line_and_a_log_of_what_befell_it_once(store: Store) -> None:
    befell = Befell(window="host/tokens/day", at=5.0, kind="midnight", detail={"used": 1.5})
    async with store.write(STEP) as tx:
        for at in (1.0, 5.0):
            await pacing_windows.keep_line(tx, "host/tokens/day", line(at), drawn_at=at)
        await pacing_windows.keep_line(tx, "gone", line(1.0), drawn_at=1.0)
        await pacing_windows.drop_lines(tx, ["gone"])
        assert [await pacing_windows.log(tx, befell), await pacing_windows.log(tx, befell)] == [True, False]
    async with store.read() as tx:
        assert await pacing_windows.lines(tx) == {"host/tokens/day": line(5.0)}
        assert await pacing_windows.befell(tx, 5.0, window="host/tokens/day") == [befell]
        assert await pacing_windows.befell(tx, 5.1) == []


async def test_an_authorization_is_given_once_never_grows_and_ends_once(store: Store) -> None:
    row = AuthorizationRow(
        id="a1", scope="host", unit="tokens", amount=9.0, granted_by="ana", granted_at=1.0, until=50.0
    )
    async with store.write(STEP) as tx:
        assert [await pacing_windows.authorize(tx, row), await pacing_windows.authorize(tx, row)] == [True, False]
        for drawn in (3.0, 2.0):
            await pacing_windows.draw(tx, "a1", drawn)
    async with store.read() as tx:
        (live,) = await pacing_windows.live(tx)
        assert (live.drawn, live.until) == (3.0, 50.0)
    async with store.write(STEP) as tx:
        assert [await pacing_windows.end(tx, "a1", "used", 7.0), await pacing_windows.end(tx, "a1", "over", 9.0)] == [
            True,
            False,
        ]
        await pacing_windows.draw(tx, "a1", 4.0)
    async with store.read() as tx:
        assert await pacing_windows.live(tx) == []
        (ended,) = await pacing_windows.ended(tx, 7.0)
        assert (ended.ended, ended.ended_at, ended.drawn) == ("used", 7.0, 3.0)


async def test_of_each_window_the_last_observations_are_found_in_their_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing_windows, "OBSERVATIONS", 2)
    row = {"account": "main", "used": 0.1, "reset_at": None, "window_s": 5.0, "status": None, "tokens": 3.0}
    async with store.write(STEP) as tx:
        for seen_at, window in ((1.0, "7d"), (2.0, "7d"), (3.0, "5h"), (4.0, "7d")):
            await tx.execute(insert(quota_history).values(**row, seen_at=seen_at, window=window))
    async with store.read() as tx:
        assert [each.seen_at for each in await pacing_windows.observations(tx, "main", "7d")] == [2.0, 4.0]
        newest = await pacing_windows.observed(tx)
        assert set(newest) == {("main", "7d"), ("main", "5h")}
        assert newest["main", "7d"] > newest["main", "5h"]


async def test_a_limit_keeps_whose_share_it_is_and_when_its_window_begins_anew(store: Store) -> None:
    row = BudgetRow(
        scope="agent:coder0", unit="share", window="7d", amount=0.2, policy="cutoff", set_by="ana", set_at=1.0,
        reset_at=9.5, of="main",
    )  # fmt: skip
    async with store.write(STEP) as tx:
        await limits_by_command.put(tx, row)
    async with store.read() as tx:
        assert await limits_by_command.every(tx) == [row]


async def test_what_waits_is_counted_by_its_reason(store: Store) -> None:
    async with store.write(STEP) as tx:
        for number, why in enumerate(("pace", "pace", "limit", None)):
            lane: dict[str, Any] = {
                "lane": "normal/role:coder/ana",
                "operator": "ana",
                "created_at": 1.0,
                "updated_at": 1.0,
            }
            await tasks.add(tx, Task(id=f"{number:08x}", kind="task", text="x", role="coder", why=why, **lane))
        await tasks.change(tx, "00000001", TaskEvent.ASSIGN, now=2.0)
    async with store.read() as tx:
        assert await pacing_windows.waiting(tx) == {"pace": 1, "limit": 1}
