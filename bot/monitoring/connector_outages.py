"""Alerts about connectors that are out of reach: one in the other chat systems, and one everywhere when it is back.

People on the failed chat system see nothing happen. People elsewhere would wonder why nobody answers there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.config.schema import OWN_ROOMS
from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import MessagePlace
from bot.text import markdown
from connectors.contract.messages import Health
from connectors.delivery.service import Delivery
from core.crash_points import declare
from database.engine.store import Store
from database.queries.operations import watchdog_findings
from database.queries.operations.watchdog_findings import CONNECTOR, FindingRow

TELL = declare("outage.tell")

#: Seconds that an outage must last before it is reported; server restarts and short network failures are normal.
PATIENCE_S: Final = 300.0


def is_out(health: Health) -> bool:
    """Return whether people on this connector cannot be heard or answered.

    Connectors that only this user sees, such as the terminal, are never out: the user simply closed them.
    """
    unseen = health.reachable is None and health.last_seen is None
    wrong = health.reachable is False or health.authenticated is False or health.impaired or unseen
    return wrong and health.kind not in OWN_ROOMS


@dataclass(slots=True, kw_only=True)
class ConnectorOutages:
    """The alerts about connector outages."""

    store: Store
    delivery: Delivery
    channel: AgentChannel
    rooms: Sequence[MessagePlace]
    """The main room of each connector that has one."""
    _since: dict[str, float] = field(default_factory=dict)

    async def look(self) -> None:
        """Check the health of all connectors, and report outages and recoveries.

        Raises:
            RegisterError: the register is away; a later check reports the change.
        """
        known, now = await self.delivery.health(), self.channel.clock()
        out = {name for name, health in known.items() if is_out(health)}
        self._since = {name: self._since.get(name, now) for name in sorted(out)}
        async with self.store.read() as tx:
            told = {row.key: row for row in await watchdog_findings.of_connectors(tx)}
        late = [name for name, since in self._since.items() if abs(now - since) >= PATIENCE_S]
        news = [name for name in late if _key(name) not in told]
        back = [row for row in told.values() if row.cause not in out]
        if not news and not back:
            return
        rooms = [room for room in self.rooms if room.connector not in out and room.connector in known]
        async with self.store.write(TELL) as tx:
            for name in news:
                await self._tell_out(tx, name, known, rooms, now)
            for row in back:
                await watchdog_findings.forget(tx, [row.key])
                # A connector that was removed from the configuration has not recovered.
                if row.cause in known:
                    lasted = markdown.span(max(0.0, now - row.found_at))
                    text = f"✔ The connector **{row.cause}** is there again, after {lasted}."
                    await self._say(tx, f"{row.event}/back", text, rooms)
        self.delivery.wake()

    async def _tell_out(
        self, tx: AsyncConnection, name: str, known: Mapping[str, Health], rooms: Sequence[MessagePlace], now: float
    ) -> None:
        if not rooms:
            return
        since = self._since[name]
        event = f"outage/{name}/{since * 1000:.0f}"
        row = FindingRow(
            key=_key(name), kind=CONNECTOR, agent=None, cause=name, event=event, found_at=since, told_at=now
        )
        await watchdog_findings.put(tx, [row])
        reason = markdown.gist(known[name].detail, self.channel.redaction, 300)
        text = (
            f"🟠 The connector **{name}** is out: {markdown.code(reason)} Messages to it wait; "
            f"{command_line('health')} shows its state."
        )
        await self._say(tx, event, text, rooms)

    async def _say(self, tx: AsyncConnection, event: str, text: str, rooms: Sequence[MessagePlace]) -> None:
        for room in rooms:
            await self.channel.speak_there(tx, f"{event}@{room.connector}", text, room)


def _key(name: str) -> str:
    return f"connector/{name}"
