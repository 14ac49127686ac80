"""The taking up of orders that a person gave without the orchestrator (`fleet.supervision.offline_orders`).

They become the desired state, and the audit has each of them once, wherever the orchestrator is killed meanwhile: both
happen in one transaction, and only the orders that are new to the audit change the desired state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.context import AgentContext
from bot.agents.desired_state import DesiredStates
from core.crash_points import declare
from database.queries.agents import agents, auto_resume
from database.queries.agents.agents import AgentRow
from database.queries.operations import audit_log
from fleet.supervision import offline_orders
from fleet.supervision.offline_orders import KILL, RESUME, OfflineOrder

log = structlog.get_logger(__name__)

ORDERED = declare("agent.ordered")


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineOrders:
    context: AgentContext
    desired_states: DesiredStates

    async def take_up(self, name: str) -> None:
        """Take the orders for an agent into the register and the audit, if there are any.

        Raises:
            RegisterError: the register cannot be written. The orders stay.
        """
        folder = self.context.starter.folder(name)
        try:
            given = await asyncio.to_thread(offline_orders.read, folder)
        except OSError as error:
            log.warning("agent.orders_unreadable", agent=name, reason=str(error))
            return
        if given is None or not given.orders:
            return
        async with self.context.store.write(ORDERED) as tx:
            row = await agents.get(tx, name)
            if row is None or not self.context.is_ours(row):
                return
            wanted = await self._obey(tx, row, given.orders)
        self.context.wake_delivery()
        try:
            await asyncio.to_thread(offline_orders.mark, folder, given, stays_down=wanted != "running")
        except OSError as error:
            log.warning("agent.orders_not_marked", agent=name, reason=str(error))

    async def _obey(self, tx: AsyncConnection, row: AgentRow, orders: Sequence[OfflineOrder]) -> str:
        """Enter each order into the audit, and let those that are new there change the desired state; return that."""
        wanted, last, killed = row.wanted, None, False
        for order in orders:
            possible = order.order != RESUME or wanted != "stopped"
            new = await audit_log.add(
                tx,
                key=f"offline/{order.id}",
                at=order.at,
                identity=order.by,
                door=order.door,
                action=order.order,
                arguments={"name": row.name, **({"now": True} if order.now else {})},
                outcome="done" if possible else "refused",
                detail="given while Muster did not answer" + ("" if possible else "; it was stopped, not frozen"),
            )
            # A launch after the order is the later word.
            if new and order.at >= (row.started_at or 0):
                wanted, last = offline_orders.desired_after(order, wanted), order
                killed = killed or order.order == KILL
        if last is None:
            return wanted
        if wanted == "running" and row.wanted == "frozen":
            await self.desired_states.resume(tx, row, run_id=f"offline-{last.id}", by=last.by)
        elif wanted == "frozen" and row.wanted != "frozen":
            await self.desired_states.freeze(tx, row, now=last.now)
            await auto_resume.drop(tx, row.name, "it was frozen")
        elif wanted == "stopped" and row.wanted != "stopped":
            await self.desired_states.stop(tx, row, now=last.now)
        if killed:
            await agents.change(tx, row.name, keep_session=False)
        log.info("agent.orders_taken", agent=row.name, wanted=wanted, by=last.by)
        return wanted
