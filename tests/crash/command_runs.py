"""Two commands, a launch and a kill that is confirmed: each is done once."""

from __future__ import annotations

import uuid
from collections import Counter
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth.permission import OPERATOR
from bot.auth.permissions import Operators
from bot.commands.context import Context, Origin
from bot.commands.executor import Executor
from bot.commands.registry import CommandTable, Reply
from bot.commands.runs import RunOutcome, RunRequest
from bot.commands.services import CommandServices
from bot.messaging.event_hub import EventHub
from bot.reports.services import ReportServices
from database.engine.store import Store
from database.queries.operations import audit_log
from tests.crash.deaths import Subject, both, each

ANA = "matrix:@ana:example.org"


async def note(tx: AsyncConnection, action: str, key: str) -> None:
    await audit_log.add(tx, key=key, at=1.0, identity=ANA, door="test", action=action, outcome="done")


async def run(folder: Path) -> None:
    store = await Store.open(f"sqlite:///{folder}/register.db")
    table = CommandTable()

    async def effect(tx: AsyncConnection) -> str:
        await note(tx, "effect", str(uuid.uuid4()))
        return "did it"

    @table.command("launch", permission=OPERATOR, help_section="x")
    async def launch(ctx: Context[CommandServices]) -> Reply:
        """Do something that must happen once."""
        return Reply(await ctx.commit("effect", effect))

    @table.command("kill", permission=OPERATOR, help_section="x", confirm=True)
    async def kill(ctx: Context[CommandServices]) -> Reply:
        """Do something that must happen once, when it is confirmed."""
        return Reply(await ctx.commit("effect", effect))

    services = ReportServices(
        clock=lambda: 1_000_000.0,
        store=store,
        table=table,
        operators=Operators(store, {ANA: OPERATOR}),
        events=EventHub(),
    )
    executor = Executor(services)

    async def finish(tx: AsyncConnection, outcome: RunOutcome) -> None:
        await note(tx, f"reply {outcome.state}", f"reply/{outcome.run_id}/{outcome.state}")

    def request(name: str) -> RunRequest:
        origin = Origin(connector="matrix", conversation="!room", parent=None, event_id=name)
        return RunRequest(
            id=name, name=name, arguments={}, identity=ANA, permission=OPERATOR, door="chat", origin=origin
        )

    await executor.run(request("launch"), finish=finish)
    await executor.run(request("kill"), finish=finish)
    outcome = await executor.confirm("kill", ANA, finish=finish)
    assert (outcome.state, outcome.text) == ("done", "did it"), outcome
    await store.close()


async def once(folder: Path) -> None:
    store = await Store.open(f"sqlite:///{folder}/register.db")
    async with store.read() as tx:
        happened = Counter(row.action for row in await audit_log.since(tx, 0, limit=100))
    expected = {"launch": 1, "kill": 1, "effect": 2, "reply done": 2, "reply confirming": 1}
    assert happened == expected, happened
    await store.close()


COMMANDS = Subject(
    script=run,
    invariant=once,
    walks=each(*both("command.accept", "command.step", "command.finish", "command.confirm")),
)
