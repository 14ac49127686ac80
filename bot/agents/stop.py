"""Replies of `stop` and `kill`, and the report about an agent whose host runs but does not answer.

Such a host may be suspended by a signal, or hang. It learns of the new desired state when it answers again. Until then
its state is unknown, so the reply says that and suggests what to do.
"""

from __future__ import annotations

from pathlib import Path

from bot.agents.services import AgentServices
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.text import markdown
from database.queries.agents import auto_resume
from fleet.supervision.restart_policy import asked_for


async def stop_agent(ctx: Context[AgentServices], name: str, *, now: bool) -> Reply:
    agents = ctx.services.agents
    row = await agents.get(name)
    if row.wanted == "stopped" and row.state in {"stopped", "failed"}:
        return Reply(f"{name} is stopped already.", {"id": row.launch_id, "state": row.state})
    if row.wanted == "frozen":
        # The agent stays frozen: anyone could launch a stopped agent. Only its automatic resume is dropped.
        await ctx.commit("stays", lambda tx: auto_resume.drop(tx, name, f"{ctx.identity} wanted it stopped"))
        back, end = command_line(f"resume {name}"), command_line(f"kill {name}")
        when = "frozen" if row.state == "frozen" else "about to be frozen"
        text = f"{name} is {when}; nothing was changed. {back} brings it back, {end} gives up its conversation."
        return Reply(text, {"id": row.launch_id, "state": row.state})
    await ctx.commit("stop", lambda tx: agents.desired_states.stop(tx, row, now=now))
    agents.look_again(name)
    silence = await silence_of(ctx, name)
    if silence is not None:
        force = f"{command_line(f'kill {name}')} ends it by force and gives up its session"
        text = f"{silence} It stops once it answers; {force}."
        return Reply(text, {"id": row.launch_id, "state": "unknown"})
    when = "now" if now or not agents.in_turn(name) else agents.busy_until(name)
    return Reply(f"{name} stops {when}.", {"id": row.launch_id, "state": "stopping"})


async def kill_agent(ctx: Context[AgentServices], name: str, *, discard: bool) -> Reply:
    agents = ctx.services.agents
    launch = await ctx.once("launch", lambda: agents.launch_of(name))
    row = await agents.get(name)
    ours = asked_for(row.launch_id) == asked_for(launch)
    egress_client = ctx.services.egress_client
    if ours and egress_client is not None:
        # The egress must not generate and bill more while the processes are ended.
        await egress_client.close_to(row, "kill", by=ctx.identity, id=ctx.run_id)
    discarded = ours and await agents.kill(row, discard=discard)
    place = ctx.services.planner.workspaces.place(name, Path(row.workspace))
    kept = f"Its workspace stays: {markdown.code(str(place))}."
    if discarded:
        kept = "Its workspace is deleted."
    elif discard:
        kept += " Muster did not create it; delete it yourself."
    return Reply(f"{name} is killed and its session given up. {kept}", {"id": launch, "state": "stopped"})


async def silence_of(ctx: Context[AgentServices], name: str) -> str | None:
    """Return a sentence about an agent whose host runs but does not answer, or None otherwise."""
    agents = ctx.services.agents
    if not await agents.is_silent(name):
        return None
    at = (await agents.view_of(name)).liveness.evidence_at
    heard = "" if at is None else f", and nothing was heard of it for {markdown.span(ctx.services.clock() - at)}"
    return f"⚠️ {name} does not answer: its process runs{heard}."
