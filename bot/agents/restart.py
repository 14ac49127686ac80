"""Decisions of `restart` before the agent stops, and its report of what changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.launch import warnings_of
from bot.agents.services import AgentServices
from bot.agents.stop import silence_of
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.text import markdown
from bot.text.errors import UserError
from fleet.errors import FleetError
from fleet.launch.launch_plan import LaunchPlan
from fleet.roster import launch_overrides
from fleet.roster.launch_overrides import Basis, LaunchChange


async def restart_agent(ctx: Context[AgentServices], name: str, *, now: bool) -> Reply:
    services = ctx.services
    row = await services.agents.get(name)
    if row.wanted == "frozen":
        raise UserError(
            f"{name} is frozen: {command_line(f'resume {name}')} brings it back. Nothing was changed.",
            code="agent.frozen",
        )
    try:
        plan = await asyncio.to_thread(services.planner.replan, row)
    except FleetError as error:  # nothing was begun: it goes on as it is
        raise UserError(str(error), code=error.code) from error
    changed = launch_overrides.changes(row, plan, Basis.from_json(row.basis), plan.basis)
    # Check before the shutdown request, because the next agent host also takes a while to answer.
    silence = await silence_of(ctx, name)

    async def act(tx: AsyncConnection) -> dict[str, object]:
        ours = await services.agents.desired_states.restart(
            tx, row, run_id=ctx.run_id, by=ctx.identity, now=now, settings=settings_of(plan)
        )
        text = f"{_told(changed)}{_overruled(plan)}{warnings_of(plan) if changed else ''}"
        return {"ours": ours, "changed": [change.field for change in changed], "text": text}

    done = await ctx.commit("restart", act)
    services.agents.look_again(name)
    if not done["ours"]:
        raise UserError(f"{name} was relaunched just now. Nothing was changed.", code="agent.changed")
    data = {"id": ctx.run_id, "state": "starting", "changed": done["changed"]}
    if silence is None:
        return Reply(f"{name} starts again{done['text']}", data)
    force = f"{command_line(f'kill {name}')} ends it by force and gives up its session"
    again = f"{command_line(f'launch {name}')} starts it then"
    text = f"{silence} It starts again once it answers{done['text']}\n\nOr {force}, and {again}."
    return Reply(text, {**data, "state": "unknown"})


def settings_of(plan: LaunchPlan) -> dict[str, object]:
    """Return the columns of an agent's row that a start with this plan sets."""
    return {
        "role": plan.role,
        "runtime": plan.runtime,
        "model": plan.model,
        "sandbox": plan.sandbox,
        "workspace": str(plan.workspace),
        "basis": plan.basis.to_json(),
    }


def _told(changed: Sequence[LaunchChange]) -> str:
    if not changed:
        return "."
    return f", with what changed in the roster: {', '.join(map(_words, changed))}."


def _words(change: LaunchChange) -> str:
    if change.before is None and change.after is None:
        # An agent gets its prompt only at the start of a conversation.
        return f"{change.field} (from its next conversation on)" if change.field == "prompt" else change.field
    after = f"{change.field} {markdown.code(change.after)}" if change.after is not None else f"no {change.field}"
    return after if change.before is None else f"{after} (it was {markdown.code(change.before)})"


def _overruled(plan: LaunchPlan) -> str:
    """Return the roster's settings that the launch overrides."""
    kept = [
        f"{field} {markdown.code(said)} (the roster: {markdown.code(other)})"
        for field, (said, other) in launch_overrides.overruled(plan.basis).items()
    ]
    return f" As its launch said, it keeps {', '.join(kept)}." if kept else ""
