"""What is carried from one room to another stands there once."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from bot.auth.permission import OPERATOR
from bot.commands.context import Context
from bot.commands.registry import CommandTable, Reply
from bot.commands.services import CommandServices
from bot.messaging.bridge import Bridge
from bot.messaging.composer import MessagePlace
from connectors.contract.messages import Edit, Message, Outbound, Redaction, Replace, Text
from connectors.delivery import outbox
from connectors.delivery.inbox import Arrival
from connectors.delivery.service import Delivery, DeliverySettings
from core.crash_points import declare
from database import schema
from tests.crash import chat
from tests.crash.deaths import Subject, both

STEP = declare("tests.bridge_killed")
ROOM, HALL = MessagePlace("memory", conversation="room"), MessagePlace("east", conversation="hall")


async def lived(folder: Path) -> None:
    """Deal with a command, its edit and its deletion."""
    store = await chat.opened(folder)
    table = CommandTable()

    @table.command("work", permission=OPERATOR, help_section="x")
    async def work(ctx: Context[CommandServices]) -> Reply:
        """Work."""
        del ctx
        return Reply("It is done.")

    said = (Text(text="!work"), Edit(target="$0", text="!rest"), Redaction(target="$0"))
    bridge = Bridge(rooms=(ROOM, HALL), connectors=("memory", "east"))
    await chat.hear(store, folder, table, *said, bridge=bridge)
    await store.close()


async def stands_once(folder: Path) -> None:
    store = await chat.opened(folder)
    async with store.read() as tx:
        rows = [outbox.Row.from_row(row).outbound for row in await tx.execute(select(schema.outbox))]
    await store.close()
    assert sorted((row.connector, _text(row.content)) for row in rows) == [
        ("east", "`@ana` on **memory**:\n> !work"),
        ("east", "now: `@ana` on **memory** deleted this."),
        ("east", "now: `@ana` on **memory**:\n> !rest (edited)"),
        ("east", "↳ to `@ana` on **memory**:\n\nIt is done."),
        ("memory", "It is done."),
    ]


def _text(content: object) -> str:
    match content:
        case Message(text=text):
            return text
        case Replace(message=Message(text=text)):
            return f"now: {text}"
    raise AssertionError(content)


async def give_up(folder: Path) -> None:
    """Give up what waits for a connector that is not configured any more."""
    store = await chat.opened(folder)
    async with store.write(STEP) as tx:
        for number in range(3):
            said = Outbound(key=f"k{number}", connector="gone", conversation="hall", content=Message(text="late"))
            await outbox.put(tx, said, 1.0)
    await Delivery(store, {}, _unhandled, settings=DeliverySettings(), clock=lambda: 1_000_000.0).abandon()
    await store.close()


async def _unhandled(arrival: Arrival) -> None:
    raise AssertionError(arrival)


async def given_up(folder: Path) -> None:
    store = await chat.opened(folder)
    async with store.read() as tx:
        dead = [row.key for row in await outbox.dead_letters(tx)]
    await store.close()
    assert sorted(dead) == ["k0", "k1", "k2"]


MIRRORED = Subject(script=lived, invariant=stands_once, walks=[both("chat.mirror"), both("command.finish")])
ABANDONED = Subject(script=give_up, invariant=given_up, walks=[both("outbox.abandon")])
