"""A long command shows how far it is, and answers once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bot.auth.permission import OPERATOR
from bot.commands.context import Context
from bot.commands.registry import CommandTable, Reply
from bot.commands.services import CommandServices
from bot.messaging import progress_message
from connectors.contract.messages import Message, Replace, Text
from connectors.delivery import outbox
from tests.crash import chat
from tests.crash.deaths import Subject, both, each


async def work(folder: Path) -> None:
    progress_message.AFTER = progress_message.EVERY = 0.0
    store = await chat.opened(folder)
    table, woken, now = CommandTable(), asyncio.Event(), chat.NOW

    @table.command("work", permission=OPERATOR, help_section="x")
    async def work(ctx: Context[CommandServices]) -> Reply:
        """Work."""
        for step in ("1 of 2", "2 of 2"):
            woken.clear()
            await ctx.progress(step)
            await woken.wait()
        return Reply("All of it is done.")

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    await chat.hear(store, folder, table, Text(text="!work"), clock=clock, wake=woken.set)
    await store.close()


async def answered(folder: Path) -> None:
    store = await chat.opened(folder)
    async with store.read() as tx:
        rows = [outbox.Row.from_row(row).outbound for row in await outbox.pending(tx, "memory")]
    await store.close()
    messages = {row.key: row.content.text for row in rows if isinstance(row.content, Message)}
    changes = [row.content for row in rows if isinstance(row.content, Replace)]
    for change in sorted(changes, key=lambda change: change.final):
        messages[change.target] = change.message.text
    said = [("answer" if key.startswith("c/") else "message", text) for key, text in sorted(messages.items())]
    assert said == [("answer", "All of it is done."), ("message", "☑️ Done.")]


PROGRESS = Subject(
    script=work,
    invariant=answered,
    walks=each(*(f"{place}:{n}" for place in both("command.progress") for n in (1, 2)), *both("command.finish")),
    marks=(pytest.mark.slow,),
)
