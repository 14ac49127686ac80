"""As much of Muster as deals with what is written in a chat room, on a register in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bot.approvals.questions import Questions
from bot.auth.permission import OPERATOR
from bot.auth.permissions import Operators
from bot.commands.executor import Executor
from bot.commands.registry import CommandTable
from bot.interfaces.chat.router import ChatRouter
from bot.interfaces.chat.unknown_senders import UnknownSenders
from bot.messaging.attachments import Pictures
from bot.messaging.composer import Composer
from bot.messaging.event_hub import EventHub
from bot.messaging.own_messages import OwnMessages
from bot.reports.services import ReportServices
from connectors.contract.messages import Batch, Inbound, InboundBody
from connectors.delivery import inbox
from connectors.delivery.inbox import Arrival
from connectors.memory import ALL_CAPABILITIES
from core.crash_points import declare
from database.engine.store import Store

ARRIVE = declare("test.arrive")
ANA = "@ana"
NOW = 1_000_000.0


async def opened(folder: Path) -> Store:
    return await Store.open(f"sqlite:///{folder}/register.db")


async def hear(
    store: Store,
    folder: Path,
    table: CommandTable,
    *bodies: InboundBody,
    clock: Callable[[], float] = lambda: NOW,
    wake: Callable[[], None] = lambda: None,
    **services: Any,
) -> None:
    """Accept what Ana writes, with the ids $0, $1 ..., and deal with what was not dealt with."""
    known = ReportServices(
        clock=clock,
        store=store,
        table=table,
        operators=Operators(store, {f"memory:{ANA}": OPERATOR}),
        events=EventHub(),
        capabilities=lambda _: ALL_CAPABILITIES,
        delivery=SimpleNamespace(wake=wake),  # type: ignore[arg-type]
        **services,
    )
    known.questions = Questions(known)
    speaker = Composer(folder / "files")
    conversations = ChatRouter(
        known,
        Executor(known),
        speaker,
        UnknownSenders(known, speaker),
        Pictures(folder / "pictures", lambda _: None),
        OwnMessages(store),
    )
    events = tuple(
        Inbound(connector="memory", event_id=f"${number}", conversation="room", sender=ANA, sent_at=NOW, body=body)
        for number, body in enumerate(bodies)
    )
    async with store.write(ARRIVE) as tx:
        await inbox.accept(tx, "memory", Batch(events=events, cursor=None), NOW)
    async with store.read() as tx:
        arrivals = [Arrival.from_row(row) for row in await inbox.unhandled(tx, after=0)]
    for arrival in arrivals:
        await conversations.handle(arrival)
