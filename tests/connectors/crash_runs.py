"""The lives of a small bot for kill tests, on any chat system: what it does about events, until all are dealt with.

A process leads one of them, is killed, and another takes up where it ended.
"""

from __future__ import annotations

import asyncio
import time

from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.contract.connector_protocol import Connector
from connectors.contract.messages import (
    Message,
    OpenThread,
    Outbound,
    OutboundContent,
    Priority,
    React,
    Remark,
    Replace,
    Text,
)
from connectors.delivery import inbox, outbox
from connectors.delivery.inbox import Arrival
from connectors.delivery.service import Delivery
from core.crash_points import declare
from database.engine.store import Store
from tests.connectors.delivery.fake_room import QUICK

HANDLE = declare("mortal.handle")


def consequences(event_id: str, text: str) -> list[tuple[str, OutboundContent, str | None, Priority]]:
    """What an event makes the bot say: key, content, thread (by its opener), priority."""
    name = f"{text} {event_id}"
    reply = Message(text=name, reply_to=event_id)
    if text == "launch":
        return [
            (f"opener {name}", OpenThread(title=name, message=reply), None, Priority.REPLY),
            (f"hello {name}", Message(text=f"hello {name}"), f"opener {name}", Priority.REPLY),
            (f"receipt {name}", React(target=event_id, key="ok"), None, Priority.RECEIPT),
        ]
    if text == "stream":
        return [
            (f"answer {name}", Message(text="..."), None, Priority.PROGRESS),
            (f"mark {name}", React(target=f"answer {name}", key="y", own=True), None, Priority.APPROVAL),
            (f"end {name}", Replace(target=f"answer {name}", message=reply, final=True), None, Priority.FINAL),
        ]
    return [(f"reply {name}", reply, None, Priority.REPLY)]


async def lead(store: Store, connector: Connector, events: int) -> None:
    """Deal with what people say, until it is so many events and everything that they cause is said."""

    async def handle(arrival: Arrival) -> None:
        body = arrival.inbound.body
        assert isinstance(body, Text | Remark)
        if isinstance(body, Text) and body.text == "poison":
            raise RuntimeError("no antidote")
        said = consequences(arrival.inbound.event_id, body.text) if isinstance(body, Text) else []
        async with store.write(HANDLE) as tx:
            for key, content, thread_of, priority in said:
                await _put(tx, key, content, arrival, thread_of, priority)
            await inbox.finish(tx, arrival.seq, time.time())
        delivery.wake()

    async def failed(tx: AsyncConnection, arrival: Arrival, reason: str) -> None:
        await _put(tx, f"sorry {arrival.inbound.event_id}", Message(text="sorry"), arrival, None, Priority.REPLY)

    delivery = Delivery(store, {connector.name: connector}, handle, settings=QUICK, on_failed=failed)
    running = asyncio.create_task(delivery.run())
    while not await _over(store, events):
        await asyncio.wait({running}, timeout=0.02)
        if running.done():
            running.result()
    running.cancel()
    await asyncio.wait({running})


async def _put(
    tx: AsyncConnection, key: str, content: OutboundContent, arrival: Arrival, thread_of: str | None, priority: Priority
) -> None:
    outbound = Outbound(
        key=key,
        connector=arrival.inbound.connector,
        conversation=None if thread_of else arrival.inbound.conversation,
        thread_of=thread_of,
        content=content,
        priority=priority,
    )
    await outbox.put(tx, outbound, time.time())


async def _over(store: Store, events: int) -> bool:
    async with store.read() as tx:
        counts = await tx.exec_driver_sql(
            "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM inbox WHERE state = 'new'),"
            " (SELECT count(*) FROM outbox WHERE state = 'pending'), (SELECT count(*) FROM cursors)"
        )
        return tuple(counts.one()) == (events, 0, 0, 1)
