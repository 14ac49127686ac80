"""A process that deals with one chat event, a long command that shows how far it is; to be killed on the way.

    python -m tests.bot.working FOLDER

Run again without being killed, it prints what then stands in the outbox to be read.
"""

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace

from bot import headway
from bot.commands.context import Context
from bot.commands.execution import Executor
from bot.commands.table import OPERATOR, CommandTable, Reply
from bot.conversations import Conversations
from bot.events import EventHub
from bot.operators import Operators
from bot.pictures import Pictures
from bot.questions import Questions
from bot.saying import Speaker
from bot.services import Services
from bot.strangers import Strangers
from bot.utterances import Utterances
from connectors import inbox, outbox
from connectors.inbox import Arrival
from connectors.memory import ALL_CAPABILITIES
from connectors.messages import Batch, Inbound, Message, Replace, Text
from register.crashpoints import declare
from register.store import Store

ARRIVE = declare("test.arrive")
ANA = "@ana"


async def main(folder: Path) -> None:
    headway.AFTER = headway.EVERY = 0.0
    store = await Store.open(f"sqlite:///{folder}/register.db")
    table, woken = CommandTable(), asyncio.Event()

    @table.command("work", permission=OPERATOR, help_section="x")
    async def work(ctx: Context) -> Reply:
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

    services = Services(
        clock=clock,
        store=store,
        table=table,
        operators=Operators(store, {f"memory:{ANA}": OPERATOR}),
        events=EventHub(),
        capabilities=lambda name: ALL_CAPABILITIES,
        delivery=SimpleNamespace(wake=woken.set),
    )
    services.questions = Questions(services)
    speaker = Speaker(folder / "files")
    conversations = Conversations(
        services,
        Executor(services),
        speaker,
        Strangers(services, speaker),
        Pictures(folder / "pictures", lambda name: None),
        Utterances(store),
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
