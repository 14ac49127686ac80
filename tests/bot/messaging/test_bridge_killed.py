"""What is carried from one room to another stands there once, whenever Muster is killed on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias, cast

import pytest
from sqlalchemy import select

from bot.approvals.questions import Questions
from bot.auth.permission import OPERATOR
from bot.auth.permissions import Operators
from bot.commands.context import Context
from bot.commands.executor import Executor
from bot.commands.registry import CommandTable, Reply
from bot.commands.services import CommandServices
from bot.interfaces.chat.router import ChatRouter
from bot.interfaces.chat.unknown_senders import UnknownSenders
from bot.messaging.attachments import Pictures
from bot.messaging.bridge import Bridge
from bot.messaging.composer import Composer, MessagePlace
from bot.messaging.event_hub import EventHub
from bot.messaging.own_messages import OwnMessages
from bot.reports.services import ReportServices
from connectors.contract.messages import Batch, Edit, Inbound, InboundBody, Message, Outbound, Redaction, Replace, Text
from connectors.delivery import inbox, outbox
from connectors.delivery.inbox import Arrival
from connectors.delivery.service import Delivery, DeliverySettings
from connectors.memory import ALL_CAPABILITIES
from core.crash_points import declare
from database import schema
from database.engine.store import Store
from tests.bot.maintenance.installation import die_at

STEP = declare("tests.bridge_killed")
ANA = "@ana"
ROOM, HALL = MessagePlace("memory", conversation="room"), MessagePlace("east", conversation="hall")

Stands: TypeAlias = "list[tuple[str, str]]"


async def lived(folder: Path) -> Stands:
    """Deal with a command, its edit and its deletion. What then stands in the outbox: connector and text."""
    store = await Store.open(f"sqlite:///{folder}/register.db")
    table, now = CommandTable(), 1_000_000.0

    @table.command("work", permission=OPERATOR, help_section="x")
    async def work(ctx: Context[CommandServices]) -> Reply:
        """Work."""
        del ctx
        return Reply("It is done.")

    services = ReportServices(
        clock=lambda: now,
        store=store,
        table=table,
        operators=Operators(store, {f"memory:{ANA}": OPERATOR}),
        events=EventHub(),
        capabilities=lambda _: ALL_CAPABILITIES,
        bridge=Bridge(rooms=(ROOM, HALL), connectors=("memory", "east")),
        delivery=cast("Delivery", SimpleNamespace(wake=lambda: None)),
    )
    services.questions = Questions(services)
    speaker = Composer(folder / "files")
    conversations = ChatRouter(
        services,
        Executor(services),
        speaker,
        UnknownSenders(services, speaker),
        Pictures(folder / "pictures", lambda _: None),
        OwnMessages(store),
    )
    bodies: list[InboundBody] = [
        Text(text="!work"),
        Edit(target="$0", text="!rest"),
        Redaction(target="$0"),
    ]
    events = tuple(
        Inbound(connector="memory", event_id=f"${number}", conversation="room", sender=ANA, sent_at=now, body=body)
        for number, body in enumerate(bodies)
    )
    async with store.write(STEP) as tx:
        await inbox.accept(tx, "memory", Batch(events=events, cursor=None), now)
    async with store.read() as tx:
        arrivals = [Arrival.from_row(row) for row in await inbox.unhandled(tx, after=0)]
    for arrival in arrivals:
        await conversations.handle(arrival)
    async with store.read() as tx:
        rows = [outbox.Row.from_row(row).outbound for row in await tx.execute(select(schema.outbox))]
    await store.close()
    return sorted((row.connector, _text(row.content)) for row in rows)


def _text(content: object) -> str:
    match content:
        case Message(text=text):
            return text
        case Replace(message=Message(text=text)):
            return f"now: {text}"
    raise AssertionError(content)


@pytest.mark.parametrize("step", ["chat.mirror", "command.finish"])
def test_killed_at_this_place_what_is_mirrored_stands_once(tmp_path: Path, step: str) -> None:
    for side in ("before", "after"):
        die_at(f"{step}.{side}", lambda: asyncio.run(lived(tmp_path)))
    assert asyncio.run(lived(tmp_path)) == [
        ("east", "`@ana` on **memory**:\n> !work"),
        ("east", "now: `@ana` on **memory** deleted this."),
        ("east", "now: `@ana` on **memory**:\n> !rest (edited)"),
        ("east", "↳ to `@ana` on **memory**:\n\nIt is done."),
        ("memory", "It is done."),
    ]


def test_killed_at_this_place_what_waits_in_vain_is_given_up(tmp_path: Path) -> None:
    async def act() -> list[str]:
        store = await Store.open(f"sqlite:///{tmp_path}/register.db")
        async with store.write(STEP) as tx:
            for number in range(3):
                said = Outbound(key=f"k{number}", connector="gone", conversation="hall", content=Message(text="late"))
                await outbox.put(tx, said, 1.0)
        await Delivery(store, {}, _unhandled, settings=DeliverySettings(), clock=lambda: 1_000_000.0).abandon()
        async with store.read() as tx:
            dead = [row.key for row in await outbox.dead_letters(tx)]
        await store.close()
        return sorted(dead)

    for side in ("before", "after"):
        die_at(f"outbox.abandon.{side}", lambda: asyncio.run(act()))
    assert asyncio.run(act()) == ["k0", "k1", "k2"]


async def _unhandled(arrival: Arrival) -> None:
    raise AssertionError(arrival)
