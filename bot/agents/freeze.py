"""Decisions and replies of `freeze` and `resume`: the agent's process ends, and its workspace and session are kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.journal.projection import cancelled_as, frozen_as
from bot.agents.messages import outgoing
from bot.agents.services import AgentServices
from bot.agents.stop import silence_of
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.text import markdown
from bot.text.errors import UserError
from database.queries.agents import agent_messages, auto_resume
from database.queries.agents.agents import AgentRow
from fleet.errors import FleetError
from fleet.roster.drift import ENDED


async def freeze_agent(ctx: Context[AgentServices], name: str, *, now: bool) -> Reply:
    agents = ctx.services.agents
    row = await agents.get(name)
    if row.wanted == "frozen" and row.state == "frozen":
        # A budget may have frozen it; then it would have resumed by itself when the budget's window resets.
        await ctx.commit("stays", lambda tx: auto_resume.drop(tx, name, "it was frozen"))
        return Reply(f"{name} is frozen already.{await _waiting(ctx, name)}", {"id": row.launch_id, "state": "frozen"})
    if now and ctx.services.egress_client is not None:
        await ctx.services.egress_client.close_to(row, "freeze", by=ctx.identity, id=ctx.run_id)

    turn = agents.turn_of(name)

    async def act(tx: AsyncConnection) -> None:
        if ctx.origin is not None and (now or turn is None):
            happens = [frozen_as(name, row.launch_id), *([] if turn is None else [cancelled_as(name, turn)])]
            await agents.journal_effects.announce(tx, row, ctx.origin.conversation, *happens)
        await agents.desired_states.freeze(tx, row, now=now)
        await auto_resume.drop(tx, name, "it was frozen")

    await ctx.commit("freeze", act)
    agents.look_again(name)
    back = f"{command_line(f'resume {name}')} brings it back"
    if row.state in ENDED:
        return Reply(f"{name} is frozen; {back}.{await _waiting(ctx, name)}", {"id": row.launch_id, "state": "frozen"})
    silence = await silence_of(ctx, name)
    if silence is not None:
        force = f"{command_line(f'kill {name}')} ends it by force and gives up its session"
        return Reply(f"{silence} It is frozen once it answers; {force}.", {"id": row.launch_id, "state": "unknown"})
    when = "now" if now or not agents.in_turn(name) else agents.busy_until(name)
    kept = "its workspace, its conversation and what waits for it are kept"
    return Reply(f"{name} is frozen {when}; {kept}, and {back}.", {"id": row.launch_id, "state": "freezing"})


async def _waiting(ctx: Context[AgentServices], name: str) -> str:
    """Return a sentence with the number of messages that wait for the agent, or an empty string if none does."""
    async with ctx.services.store.read() as tx:
        count = len(await agent_messages.in_states(tx, ["pending", "journaled"], agent=name))
    if not count:
        return ""
    return " A message waits for it." if count == 1 else f" {count} messages wait for it."


async def resume_agent(ctx: Context[AgentServices], name: str, *, prompt: str | None) -> Reply:
    services = ctx.services
    row = await services.agents.get(name)
    known = await ctx.once("launch", lambda: services.agents.launch_of(name))
    if row.launch_id == known and row.wanted != "frozen":
        return await _not_frozen(ctx, row, prompt)
    if row.launch_id == known:
        try:
            await asyncio.to_thread(services.planner.as_it_is, row)
        except FleetError as error:  # nothing was begun: it stays frozen
            raise UserError(f"{name} stays frozen: {error}", code=error.code) from error
    origin = ctx.origin

    async def act(tx: AsyncConnection) -> bool:
        ours: bool = await services.agents.desired_states.resume(tx, row, run_id=ctx.run_id, by=ctx.identity)
        if ours and prompt:
            await services.agents.send(
                tx,
                row,
                prompt,
                message_id=f"{ctx.run_id}-prompt",
                by=ctx.identity,
                connector=origin.connector if origin is not None else None,
                conversation=origin.conversation if origin is not None else None,
                event_id=origin.event_id if origin is not None else None,
            )
        return ours

    if not await ctx.commit("resume", act):
        raise UserError(f"{name} is not frozen any more; nothing was changed.", code="agent.not_frozen")
    services.agents.look_again(name)
    services.agents.bring_mail(name)
    waiting = await _waiting(ctx, name)
    data: dict[str, Any] = {"id": ctx.run_id, "state": "starting"}
    if prompt:
        data["message"] = f"{ctx.run_id}-prompt"
    place = markdown.code(str(services.planner.workspaces.place(name, Path(row.workspace))))
    return Reply(f"{name} comes back in its thread, in {place}.{waiting}", data)


async def _not_frozen(ctx: Context[AgentServices], row: AgentRow, prompt: str | None) -> Reply:
    """Answer for an agent that is not frozen. A running agent gets the prompt as a message."""
    if row.wanted != "running":
        start = command_line(f"launch {row.name}")
        raise UserError(
            f"{row.name} is stopped, not frozen: {start} starts it, in its session.", code="agent.not_frozen"
        )
    data: dict[str, Any] = {"id": row.launch_id, "state": row.state}
    if not prompt:
        return Reply(f"{row.name} is not frozen ({row.state}); nothing was changed.", data)
    handed = await outgoing.post(ctx, row.name, prompt, mode="queue")
    text = f"{row.name} is not frozen ({row.state}), so its prompt is a message. {handed.text}"
    return Reply(text, {**data, "message": handed.data["id"]})
