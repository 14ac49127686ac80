"""A small bot for kill tests: a process in an encrypted room of a real homeserver, which is killed and runs again."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from connectors import inbox, outbox
from connectors.delivery import Delivery
from connectors.matrix.connector import MatrixConnector
from connectors.matrix.settings import MatrixSettings
from connectors.messages import Outbound, Remark, Text
from register import crashpoints
from register.crashpoints import declare
from register.store import Store
from tests.connectors.mortal import consequences
from tests.connectors.office import QUICK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectors.inbox import Arrival

HANDLE = declare("mortal.handle_matrix")


def live(register_url: str, settings: dict[str, Any], folder: str, events: int, place: str | None) -> None:
    """The life of the process, until `events` events are dealt with, or until `place`."""
    crashpoints.arm(place)
    asyncio.run(main(register_url, settings, folder, events))


async def main(register_url: str, settings: dict[str, Any], folder: str, events: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    store = await Store.open(register_url)
    connector = MatrixConnector(
        "matrix", MatrixSettings.model_validate(settings), Path(folder), may_invite=_anybody, may_read=_anybody
    )

    async def handle(arrival: Arrival) -> None:
        body = arrival.inbound.body
        assert isinstance(body, Text | Remark)
        said = [] if isinstance(body, Remark) else consequences(arrival.inbound.event_id, body.text)
        async with store.write(HANDLE) as tx:
            for key, content, thread_of, priority in said:
                outbound = Outbound(
                    key=key,
                    connector="matrix",
                    conversation=None if thread_of else arrival.inbound.conversation,
                    thread_of=thread_of,
                    content=content,
                    priority=priority,
                )
                await outbox.put(tx, outbound, time.time())
            await inbox.finish(tx, arrival.seq, time.time())
        delivery.wake()

    delivery = Delivery(store, {"matrix": connector}, handle, settings=QUICK)
    running = asyncio.create_task(delivery.run())
    while not await _over(store, events):
        await asyncio.wait({running}, timeout=0.02)
        if running.done():
            running.result()
    running.cancel()
    await asyncio.wait({running})
    await store.close()


async def _anybody(person: str, groups: Sequence[str] = ()) -> bool:
    return True


async def _over(store: Store, events: int) -> bool:
    async with store.read() as tx:
        counts = await tx.exec_driver_sql(
            "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM inbox WHERE state = 'new'),"
            " (SELECT count(*) FROM outbox WHERE state = 'pending'), (SELECT count(*) FROM cursors)"
        )
        return tuple(counts.one()) == (events, 0, 0, 1)
