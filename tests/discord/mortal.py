"""A small bot for kill tests: it runs as a process on a fake Discord, is killed, and runs again."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from connectors import inbox, outbox
from connectors.delivery import Delivery
from connectors.discord.connector import DiscordConnector
from connectors.discord.settings import DiscordSettings
from connectors.messages import Outbound, Text
from register import crashpoints
from register.crashpoints import declare
from register.store import Store
from tests.connectors.mortal import consequences
from tests.connectors.office import QUICK

if TYPE_CHECKING:
    from connectors.inbox import Arrival

HANDLE = declare("mortal.handle_discord")

#: Discord recognises nonces, or has forgotten them: then the bot has to look.
MODES = ("keys", "looks")


def live(
    register_url: str, settings: dict[str, str | int], folder: str, mode: str, events: int, place: str | None
) -> None:
    """The life of the process, until `events` events are dealt with, or until `place`."""
    crashpoints.arm(place)
    asyncio.run(main(register_url, settings, folder, mode, events))


async def main(register_url: str, settings: dict[str, str | int], folder: str, mode: str, events: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    store = await Store.open(register_url)
    connector = DiscordConnector("discord", DiscordSettings.model_validate(settings), Path(folder))
    if mode == "looks":
        connector.capabilities = replace(connector.capabilities, remembers_keys=None)

    async def handle(arrival: Arrival) -> None:
        body = arrival.inbound.body
        assert isinstance(body, Text)
        async with store.write(HANDLE) as tx:
            for key, content, thread_of, priority in consequences(arrival.inbound.event_id, body.text):
                outbound = Outbound(
                    key=key,
                    connector="discord",
                    conversation=None if thread_of else arrival.inbound.conversation,
                    thread_of=thread_of,
                    content=content,
                    priority=priority,
                )
                await outbox.put(tx, outbound, time.time())
            await inbox.finish(tx, arrival.seq, time.time())
        delivery.wake()

    delivery = Delivery(store, {"discord": connector}, handle, settings=QUICK)
    running = asyncio.create_task(delivery.run())
    while not await _over(store, events):
        await asyncio.wait({running}, timeout=0.02)
        if running.done():
            running.result()
    running.cancel()
    await asyncio.wait({running})
    await store.close()


async def _over(store: Store, events: int) -> bool:
    async with store.read() as tx:
        counts = await tx.exec_driver_sql(
            "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM inbox WHERE state = 'new'),"
            " (SELECT count(*) FROM outbox WHERE state = 'pending')"
        )
        return tuple(counts.one()) == (events, 0, 0)
