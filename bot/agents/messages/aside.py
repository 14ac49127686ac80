"""Questions on the side: asked while an agent works, and answered without it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bot.agents import not_started
from bot.agents.journal import timeline
from bot.agents.journal.conversation import PAGE
from bot.agents.journal.summary import summary
from bot.agents.services import AgentServices
from bot.auth.permissions import is_person
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.text import markdown
from bot.text.errors import UserError
from database.queries.agents.agents import AgentRow
from fleet.errors import AgentRefused
from fleet.journal import reader
from fleet.runtimes import RUNTIMES
from fleet.runtimes.declaration import Runtime


async def ask(ctx: Context[AgentServices], name: str, text: str) -> Reply:
    """Ask a question on the side. The answer appears in the agent's thread.

    Raises:
        UserError: the agent does not run, or takes no question now.
    """
    agents = ctx.services.agents
    row = await not_started.get(ctx.services, name)
    if is_person(ctx.identity):
        await ctx.services.runaway.spoken_to(name, ctx.identity, ctx.through)

    async def act() -> str:
        agents.make_sure_it_is_ours(row)
        link = agents.link(name)
        if link is None or row.wanted != "running":
            raise _not_running(row)
        told = await asyncio.to_thread(_summary, agents.context.starter.folder(name))
        try:
            return await link.ask_aside(ctx.run_id, text, sender=ctx.identity, summary=told)
        except AgentRefused as refusal:
            raise _refused(name, refusal, RUNTIMES.get(row.runtime)) from None

    state = await ctx.once("aside", act)
    note = f"Asked {name} on the side. The answer comes in its thread, and its own work goes on."
    return Reply(note, {"id": ctx.run_id, "agent": name, "state": state})


def _not_running(row: AgentRow) -> UserError:
    name = row.name
    if row.wanted == "frozen":
        back = command_line(f"resume {name}")
        return UserError(
            f"{name} is frozen, so it can answer nothing. {back} brings it back. Nothing was asked.",
            code="agent.frozen",
        )
    start = command_line(f"launch {name}" if row.wanted == "stopped" else f"restart {name}")
    return UserError(f"{name} does not run. {start} starts it. Nothing was asked.", code="agent.not_running")


def _refused(name: str, refusal: AgentRefused, runtime: Runtime | None = None) -> UserError | AgentRefused:
    """Return a refusal of the agent host in terms of commands."""
    send = command_line(f"send {name} TEXT")
    match refusal.refusal:
        case "unknown_method":
            again = command_line(f"restart {name}")
            return UserError(
                f"{name} runs in an agent host of an earlier version, which takes no questions on the side. {again} "
                "updates it. Nothing was asked.",
                code="agent.outdated",
            )
        case "aside_open":
            return UserError(
                f"{name} answers another question on the side. Ask again after that answer, or queue the question: "
                f"{send}. Nothing was asked.",
                code="aside.open",
            )
        case "no_aside":
            why = "Its runtime does not ask before it changes things, so nothing would keep a copy of it from that."
            if runtime is not None and runtime.no_aside:
                why = runtime.no_aside
            return UserError(
                f"{name} takes no questions on the side. {why} {send} asks the agent itself.", code="aside.unavailable"
            )
        case "starting" | "stopping":
            return UserError(
                f"{name} takes no question now: {markdown.one_line(str(refusal), 200)} Nothing was asked.",
                code="agent.not_running",
            )
        case "invalid" | "too_long":
            return UserError(f"{markdown.one_line(str(refusal), 300)} Nothing was asked.", code="aside.invalid")
        case _:
            return refusal


def _summary(folder: Path) -> str:
    """Return a summary of what the journal says last. Blocking. Empty if the journal cannot be read."""
    try:
        entries = reader.read_last(folder, PAGE)
    except OSError:
        return ""
    return summary(timeline.turns_of(entries))
