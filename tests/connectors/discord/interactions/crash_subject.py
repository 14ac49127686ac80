"""A small bot for kill tests of slash commands and buttons: it is killed, and runs again; it does not end by itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from connectors.contract.messages import (
    CommandReading,
    Message,
    Outbound,
    OutboundContent,
    React,
    Reaction,
    Replace,
    Text,
)
from connectors.contract.slash_command_forms import Asker, Form, Value
from connectors.delivery import inbox, outbox
from connectors.delivery.inbox import Arrival
from connectors.delivery.service import Delivery
from connectors.discord.connector import DiscordConnector
from connectors.discord.settings import DiscordSettings
from core.crash_points import declare
from database.engine.store import Store
from tests.connectors.delivery.fake_room import QUICK

HANDLE = declare("mortal.handle_command")

#: The outbox key of the message whose buttons are pressed.
QUESTION = "question"


class One:
    """One command, for everybody."""

    def forms(self) -> Sequence[Form]:
        return (Form(name="ps", description="Who is there."),)

    def words(self, name: str, values: Mapping[str, Value]) -> Text:
        return Text(text=name, reading=CommandReading.COMMAND)

    async def complete(self, asker: Asker, name: str, option: str, typed: str) -> Sequence[str]:
        return ()

    async def refusal(self, asker: Asker) -> str | None:
        return None


async def main(register_url: str, settings: dict[str, str | int], folder: str) -> None:
    """Live until it is killed."""
    store = await Store.open(register_url)
    connector = DiscordConnector("discord", DiscordSettings.model_validate(settings), Path(folder), commands=One())

    async def handle(arrival: Arrival) -> None:
        event, body = arrival.inbound.event_id, arrival.inbound.body
        async with store.write(HANDLE) as tx:
            contents: dict[str, OutboundContent]
            if isinstance(body, Reaction):
                contents = {
                    f"pressed {event}": Message(text=f"pressed {event}"),
                    f"aside {event}": Message(text=f"thanks {event}", reply_to=event, private=True),
                    "over": Replace(target=QUESTION, message=Message(text="it is over"), final=True),
                }
            else:
                assert isinstance(body, Text)
                contents = {
                    f"answer {event}": Message(text=f"{body.text} {event}", reply_to=event),
                    f"more {event}": Message(text=f"more of {body.text} {event}", reply_to=event),
                    f"mark {event}": React(target=event, key="ok"),
                }
            for key, content in contents.items():
                outbound = Outbound(
                    key=key, connector="discord", conversation=arrival.inbound.conversation, content=content
                )
                await outbox.put(tx, outbound, time.time())
            await inbox.finish(tx, arrival.seq, time.time())
        delivery.wake()

    delivery = Delivery(store, {"discord": connector}, handle, settings=QUICK)
    await delivery.run()
