"""The watchdog: checks the fleet and alerts operators to new findings.

The register records each alert in the transaction that puts its messages into the outbox. After a crash at any point,
the next sweep sends the missing alerts, and none twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from core.crash_points import declare
from database.engine.store import Store
from database.queries.operations import watchdog_findings
from fleet.supervision.health_findings import FleetView, HealthFinding, HealthThresholds, found_in
from scheduler import alert_policy
from scheduler.alert_policy import News

log = structlog.get_logger(__name__)

TELL = declare("watchdog.tell")


class FindingListener(Protocol):
    """The delivery of alerts to operators."""

    async def tell(self, tx: AsyncConnection, piece: News) -> bool:
        """Put the messages into the outbox; return False if there is no chat room for them."""

    def told(self, piece: News) -> None:
        """Act on the commit of what `tell` wrote."""


@dataclass(slots=True)
class Watchdog:
    """A check of the fleet that runs on request."""

    store: Store
    look: Callable[[], Awaitable[FleetView]]
    herald: FindingListener
    cancel: Callable[[str, str], Awaitable[None]]
    """Cancels an agent's turn if that turn is still running."""
    limits: HealthThresholds
    _memory: alert_policy.Memory = field(default_factory=alert_policy.Memory)
    _roomless: bool = False
    """Whether the lack of a chat room was logged already."""
    _cancelled: set[str] = field(default_factory=set)
    """The keys of overdue turns that this process already canceled."""

    async def sweep(self) -> None:
        """Check the fleet once and send the new alerts.

        Raises:
            RegisterError: the register cannot be used; the next sweep sends the alerts.
        """
        view = await self.look()
        found = found_in(view, self.limits)
        async with self.store.read() as tx:
            standing = await watchdog_findings.every(tx)
        decision = alert_policy.decide(found, standing, self._memory, view.at, self.limits)
        if decision.news or decision.rows or decision.over:
            told = await self._write(decision)
            for piece in told:
                log.info("watchdog.told", piece=type(piece).__name__, event_id=piece.event)
                self.herald.told(piece)
        self._memory = decision.memory
        await self._cancel_overdue(found.findings)

    async def _write(self, decision: alert_policy.NewsDecision) -> list[News]:
        told: list[News] = []
        async with self.store.write(TELL) as tx:
            await watchdog_findings.forget(tx, decision.over)
            for piece in decision.news:
                if not await self.herald.tell(tx, piece):
                    # Without its rows in the register, the next sweep tries again.
                    if not self._roomless:
                        log.warning("watchdog.no_room", event_id=piece.event)
                    self._roomless = True
                    continue
                told.append(piece)
                await watchdog_findings.put(tx, decision.rows.get(piece.event, ()))
        return told

    async def _cancel_overdue(self, found: Sequence[HealthFinding]) -> None:
        """Cancel each overdue turn once, and once more after a restart, since the first attempt may have failed."""
        overdue = {finding.key: finding for finding in found if finding.kind == "overdue"}
        self._cancelled &= set(overdue)
        for key, finding in overdue.items():
            if key not in self._cancelled:
                self._cancelled.add(key)
                await self.cancel(finding.agent, finding.subject)
