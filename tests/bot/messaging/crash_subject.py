"""A process that deals with one chat event, a long command that shows how far it is; to be killed on the way.

    python -m tests.bot.messaging.crash_subject FOLDER

Run again without being killed, it prints what then stands in the outbox to be read.
"""

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bot.approvals.questions import Questions
from bot.auth.permission import OPERATOR
from bot.auth.permissions import Operators
from bot.commands.context import Context
from bot.commands.executor import Executor
from bot.commands.registry import CommandTable, Reply
from bot.commands.services import CommandServices
from bot.interfaces.chat.router import ChatRouter
from bot.interfaces.chat.unknown_senders import UnknownSenders
from bot.messaging import progress_message
from bot.messaging.attachments import Pictures
from bot.messaging.composer import Composer
from bot.messaging.event_hub import EventHub
from bot.messaging.own_messages import OwnMessages
from bot.reports.services import ReportServices
from connectors.contract.messages import Batch, Inbound, Message, Replace, Text
from connectors.delivery import inbox, outbox
from connectors.delivery.inbox import Arrival
from connectors.memory import ALL_CAPABILITIES
from core.crash_points import declare
from database.engine.store import Store

ARRIVE = declare("test.arrive")
ANA = "@ana"


async def main(folder: Path) -> None:
    progress_message.AFTER = progress_message.EVERY = 0.0
    store = await Store.open(f"sqlite:///{folder}/register.db")
    table, woken = CommandTable(), asyncio.Event()

    @table.command("work", permission=OPERATOR, help_section="x")
    async def work(ctx: Context[CommandServices]) -> Reply:
        """Work."""
        for step in ("1 of 2", "2 of 2"):
            woken.clear()
            await ctx.progress(step)
            await woken.wait()
        return Reply("All of it is done.")

    now = 1_000_000.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    services = ReportServices(
        clock=clock,
        store=store,
        table=table,
        operators=Operators(store, {f"memory:{ANA}": OPERATOR}),
        events=EventHub(),
        capabilities=lambda name: ALL_CAPABILITIES,
        delivery=cast("Any", SimpleNamespace(wake=woken.set)),
    )
    services.questions = Questions(services)
    speaker = Composer(folder / "files")
    conversations = ChatRouter(
        services,
        Executor(services),
        speaker,
        UnknownSenders(services, speaker),
        Pictures(folder / "pictures", lambda name: None),
        OwnMessages(store),
    )
    asked = Inbound(
        connector="memory", event_id="$1", conversation="room", sender=ANA, sent_at=now, body=Text(text="!work")
    )
    async with store.write(ARRIVE) as tx:
        await inbox.accept(tx, "memory", Batch(events=(asked,), cursor=None), now)
    async with store.read() as tx:
        arrivals = [Arrival.from_row(row) for row in await inbox.unhandled(tx, after=0)]
    for arrival in arrivals:
        await conversations.handle(arrival)
    async with store.read() as tx:
        rows = [outbox.Row.from_row(row).outbound for row in await outbox.pending(tx, "memory")]
    messages = {row.key: row.content.text for row in rows if isinstance(row.content, Message)}
    changes = [row.content for row in rows if isinstance(row.content, Replace)]
    for change in sorted(changes, key=lambda change: change.final):
        messages[change.target] = change.message.text
    for key, text in sorted(messages.items()):
        print("answer" if key.startswith("c/") else "message", text)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
