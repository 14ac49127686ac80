"""A register, a chat system in memory, and a delivery between them, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.contract.connector_protocol import Connector
from connectors.contract.messages import Message, Outbound, OutboundContent, Priority, Text
from connectors.delivery import inbox, outbox
from connectors.delivery.inbox import Arrival
from connectors.delivery.service import Delivery, DeliverySettings
from connectors.memory import MemoryConnector, MemoryServer
from core.crash_points import declare
from database.engine.store import Store
from tests import waiting

STEP = declare("test.handle")

#: Waits are short, so that failures are soon over; nothing is asserted about them.
QUICK = DeliverySettings(
    retry_first=0.01,
    retry_longest=0.05,
    restart_first=0.01,
    restart_longest=0.05,
    handler_pause=0.01,
    handler_tries=3,
    rescan_every=0.05,
    send_timeout=10.0,
    stop_timeout=1.0,
)


@dataclass
class Office:
    """What a test holds on to."""

    store: Store
    server: MemoryServer
    settings: DeliverySettings = QUICK
    name: str = "memory"
    """The connector's."""
    handled: list[str] = field(default_factory=list)
    outcomes: list[outbox.Row] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    delivery: Delivery | None = None

    @asynccontextmanager
    async def open(self, connectors: Mapping[str, Connector] | None = None, **more: Any) -> AsyncIterator[Delivery]:
        """Deliver for the length of the block."""
        known: Mapping[str, Connector] = connectors or {"memory": MemoryConnector(server=self.server)}
        more = {"settings": self.settings, "on_outcome": self._on_outcome, **more}
        handler = more.pop("handler", self.answer)
        self.delivery = Delivery(self.store, known, handler, **more)
        running = asyncio.create_task(self.delivery.run())
        try:
            await self.until(self.started)
            yield self.delivery
        finally:
            running.cancel()
            await asyncio.wait({running})
            if not running.cancelled():
                running.result()

    async def answer(self, arrival: Arrival) -> None:
        """The bot of these tests: answers every text with the same words."""
        inbound = arrival.inbound
        self.handled.append(inbound.event_id)
        async with self.store.write(STEP) as tx:
            if isinstance(inbound.body, Text):
                content = Message(text=f"re: {inbound.body.text}", reply_to=inbound.event_id)
                await self.put_in(tx, f"re {inbound.event_id}", content, to=inbound.conversation)
            await inbox.finish(tx, arrival.seq, 1.0)
        assert self.delivery is not None
        self.delivery.wake()

    async def put(self, key: str, content: OutboundContent | None = None, **more: Any) -> None:
        """Say something of the bot's own accord."""
        async with self.store.write(STEP) as tx:
            await self.put_in(tx, key, content, **more)
        if self.delivery is not None:
            self.delivery.wake()

    async def put_in(
        self,
        tx: AsyncConnection,
        key: str,
        content: OutboundContent | None = None,
        *,
        to: str | None = "room",
        thread_of: str | None = None,
        priority: Priority = Priority.REPLY,
        connector: str | None = None,
    ) -> None:
        outbound = Outbound(
            key=key,
            connector=connector or self.name,
            conversation=None if thread_of else to,
            thread_of=thread_of,
            content=content or Message(text=key),
            priority=priority,
        )
        assert self.delivery is not None
        await outbox.put(tx, outbound, self.server.clock())

    async def row(self, key: str) -> outbox.Row:
        async with self.store.read() as tx:
            row = await outbox.get(tx, key)
        assert row is not None
        return row

    async def state(self, key: str) -> str:
        return (await self.row(key)).state

    async def until_state(self, key: str, state: str) -> outbox.Row:
        """Wait until a row was sent or is dead."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: any(row.key == key and row.state == state for row in self.outcomes))
        return await self.row(key)

    async def started(self) -> bool:
        """Whether the connector has been started once, so that what is posted now counts."""
        async with self.store.read() as tx:
            return await inbox.cursor(tx, self.name) is not None

    async def until(self, condition: Any) -> None:
        """Wait for something that only the register knows."""
        await waiting.until(condition, limit=10)

    async def _on_outcome(self, row: outbox.Row) -> None:
        self.outcomes.append(row)
        async with self.changed:
            self.changed.notify_all()


@asynccontextmanager
async def opened(register_url: str, **more: Any) -> AsyncIterator[Office]:
    """An office with this register."""
    store = await Store.open(register_url)
    try:
        yield Office(store=store, server=more.pop("server", MemoryServer()), **more)
    finally:
        await store.close()
