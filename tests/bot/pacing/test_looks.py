"""What a look at the pace costs, and that it is right however many look at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, update

from bot.config.limits import Budgets
from bot.maintenance.ledger_recount import Recount
from core.crash_points import declare
from database.engine.store import Store
from database.queries.spending import limits_by_command, usage_ledger
from database.queries.spending.limits_by_command import BudgetRow
from database.queries.spending.usage_queries import TOKENS
from database.schema import spending
from tests.bot.pacing.test_kept import NOON, pace
from tests.database.queries.rows import row

STEP = declare("tests.looks")


async def _use(store: Store, seq: int, tokens: int, at: float) -> None:
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, [row(seq, ended_at=at, **dict.fromkeys(TOKENS, 0) | {"input_tokens": tokens})])


async def test_where_nothing_can_be_paced_a_look_reads_nothing_until_a_limit_is_set(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    unpaced, read = pace(store), list[str]()
    settings: Any = unpaced.services.settings
    settings.budgets = Budgets.model_validate({"agents": {"coder0": {"tokens": "5M"}}})
    assert (await unpaced.snapshot()).standings == {}, "an allowance of a launch has no window"

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        read.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    request.addfinalizer(lambda: event.remove(Engine, "before_cursor_execute", note))
    assert (await unpaced.snapshot()).standings == {}
    assert read == []
    limit: dict[str, Any] = {"unit": "tokens", "window": "day", "amount": 9e6, "policy": "cutoff"}
    async with store.write(STEP) as tx:
        await limits_by_command.put(tx, BudgetRow(scope="host", **limit, set_by="ana", set_at=NOON))
    await unpaced.redraw()
    assert list((await unpaced.snapshot()).standings) == ["host/tokens/day"]
    async with store.write(STEP) as tx:
        await limits_by_command.clear(tx, "host")
    await unpaced.redraw()
    read.clear()
    assert (await unpaced.snapshot()).standings == {}
    assert read == []
    other: Any = SimpleNamespace(**vars(unpaced.services.settings))
    other.budgets = Budgets.model_validate({"host": {"tokens": "24M", "window": "day"}})
    unpaced.services.settings = other
    assert list((await unpaced.snapshot()).standings) == ["host/tokens/day"]
    await store.close()


async def test_many_at_once_see_what_was_used_and_what_was_put_right(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    paced = pace(store)

    async def used() -> float | None:
        return (await paced.snapshot()).standings["host/tokens/day"].window.used

    for seq in range(1, 4):
        await _use(store, seq, 1_000, NOON - seq)
        assert await asyncio.gather(*(used() for _ in range(5))) == [1_000 * seq] * 5
    async with store.write(STEP) as tx:
        await tx.execute(update(spending).values(output_tokens=500))
    await Recount(store, lambda: NOON, paced.doubt).next()
    assert await used() == 3_000
    async with store.write(STEP) as tx:
        # Seen by nobody who did not doubt; what an older Muster wrote without its sum.
        await tx.execute(delete(spending))
    await Recount(store, lambda: NOON, paced.doubt).next()
    await _use(store, 4, 1_000, NOON - 4)
    assert await used() == 4_000
    await store.close()
