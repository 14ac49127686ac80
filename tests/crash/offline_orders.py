"""An order that was given without Muster holds, is in the audit once, and does not undo what a person did after it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bot.agents.desired_state import DesiredStates
from bot.agents.offline_orders import OfflineOrders
from core.crash_points import declare
from database.queries.agents import agents
from database.queries.operations import audit_log
from fleet.supervision import offline_orders
from fleet.supervision.offline_orders import FREEZE, OfflineOrder
from tests.crash.deaths import Subject, both, each
from tests.crash.unasked import NOON, ROW, desk

STEP = declare("tests.offline_orders")


async def add_agent(folder: Path) -> None:
    (folder / ROW.name).mkdir()
    services = await desk(folder, NOON)
    async with services.store.write(STEP) as tx:
        await agents.add(tx, ROW)
    await services.store.close()


async def order_and_start(folder: Path) -> None:
    """Freeze the agent from a shell, and start Muster. If it was frozen already, a person has resumed it."""
    services = await desk(folder, NOON + 100)
    async with services.store.write(STEP) as tx:
        row = await agents.get(tx, ROW.name)
        assert row is not None
        if row.wanted == "frozen":
            (folder / "resumed").touch()
            await agents.change(tx, ROW.name, wanted="running")
            offline_orders.launched(folder / ROW.name)
    if not (folder / "resumed").exists() and offline_orders.read(folder / ROW.name) is None:
        order = OfflineOrder(id="o1", order=FREEZE, by="terminal:ana", at=NOON)
        offline_orders.give(folder / ROW.name, order)
    context: Any = SimpleNamespace(
        store=services.store,
        starter=SimpleNamespace(folder=lambda name: folder / name),
        is_ours=lambda _: True,
        wake_delivery=lambda: None,
    )
    states = DesiredStates(
        journal_effects=services.agents.journal_effects, clock=services.clock, send=services.agents.send, patience=60.0
    )
    await OfflineOrders(context=context, desired_states=states).take_up(ROW.name)
    await services.store.close()


async def obeyed_once(folder: Path) -> None:
    services = await desk(folder, NOON)
    async with services.store.read() as tx:
        row = await agents.get(tx, ROW.name)
        lines = await audit_log.since(tx, 0, limit=100)
    assert row is not None
    resumed = (folder / "resumed").exists()
    assert row.wanted == ("running" if resumed else "frozen")
    assert [(line.action, line.identity, line.at, line.outcome) for line in lines] == [
        ("freeze", "terminal:ana", NOON, "done")
    ]
    found = offline_orders.read(folder / ROW.name)
    assert found is None or not found.orders
    assert offline_orders.keeps_down(folder / ROW.name) is not resumed
    await services.store.close()


OFFLINE_ORDERS = Subject(
    set_up=add_agent,
    script=order_and_start,
    invariant=obeyed_once,
    walks=each(*both("order.given", "agent.ordered", "order.taken")),
)
