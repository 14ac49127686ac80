"""Decisions of `launch` before anything starts, from the command's arguments, the roster and the defaults."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.desired_state import LaunchRequest
from bot.agents.messages import outgoing
from bot.agents.services import AgentServices
from bot.agents.sessions.service import check_session
from bot.auth.permission import ADMIN
from bot.auth.permissions import is_person
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.config import loader
from bot.pacing.session_admission import Opening, opening, settle, tried_in_words, work_of
from bot.spending.held_limits import holding
from bot.tasks import deferred_turns
from bot.tasks.deferred_turns import TurnHold
from bot.text import markdown
from bot.text.errors import NotPermitted, UsageError, UserError
from budget.amounts import read_tokens
from budget.dispatch.next_task import TaskWait
from budget.policy.model_downgrade import QueueStart
from budget.windows import interactive_turns
from budget.windows.interactive_turns import Begins
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.tasks import Task
from fleet.errors import FleetError
from fleet.launch.launch_plan import LaunchPlan
from fleet.roster import edit
from fleet.runtimes import RUNTIMES
from fleet.sandbox.profiles import JOINS
from fleet.workspace import left_behind


async def launch_agent(
    ctx: Context[AgentServices],
    name: str,
    *,
    role: str | None,
    runtime: str | None,
    model: str | None,
    sandbox: str | None,
    workspace: str | None,
    task: str | None,
    budget: str | None = None,
    session: str | None = None,
) -> Reply:
    services = ctx.services
    if sandbox is not None and JOINS in sandbox:
        raise UserError(
            f"Only {command_line('run')} joins sandbox profiles. Write a profile into muster.yaml that extends them, "
            "and name that; nothing was begun.",
            code="sandbox.joined",
        )
    await check_place(ctx, name, sandbox=sandbox, workspace=workspace)
    await _check_topic(services, name)
    asked: dict[str, str | None] = {
        "role": role, "runtime": runtime, "model": model, "sandbox": sandbox, "workspace": workspace
    }  # fmt: skip
    if budget is not None:
        asked |= await _budget(ctx, name, budget)
    if session is not None:
        asked["session"] = session
    try:
        plan = await asyncio.to_thread(services.planner.plan, name, asked)
    except FleetError as error:  # nothing was begun
        raise UserError(str(error), code=error.code) from error
    if session is not None:
        await check_session(ctx, name, plan.runtime, session)
    # A launch typed in a chat room prefers that room; any other launch prefers the roster's room.
    connector, room = await room_for(ctx, plan, here=ctx.door == "chat")
    opened = await opening(services, plan, work_of(task), asked=asked)
    begun = opened.plan
    hold = await hold_of(services, opened, ctx.identity) if task else None
    request = request_of(begun, by=ctx.identity, connector=connector, room=room, task=task if hold is None else None)

    async def act(tx: AsyncConnection) -> dict[str, object]:
        row, ours = await services.agents.desired_states.launch(tx, request, run_id=ctx.run_id)
        said = await settle(services, tx, row, opened) if ours else None
        if ours and task and hold is not None:
            said = deferred_turns.told(services, row, await _queue(ctx, tx, row, hold, task), hold)
        return {"launch": row.launch_id, "state": row.state, "ours": ours, "sandbox": row.sandbox, "said": said}

    done = await ctx.commit("launch", act)
    if not done["ours"]:
        return await _runs_already(ctx, name, task, has_settings=any(value is not None for value in asked.values()))
    warnings = ""
    try:
        if plan.new:
            await asyncio.to_thread(edit.add_agent, services.paths.roster_yaml, plan.entry)
    except FleetError as error:
        warnings += f"\n\n⚠️ It runs, but it could not be added to the roster: {error}"
    services.agents.look_again(name)
    if hold is not None:
        services.dispatcher.wake()
    elif task:
        services.agents.bring_mail(name)
    warnings += warnings_of(begun)
    if done["said"]:
        warnings += f"\n\n{done['said']}"
    place = markdown.code(str(plan.workspace))
    if plan.repository is not None:
        place = f"a clone of {place}, on its branch {markdown.code(f'muster/{name}')}"
        if left := await asyncio.to_thread(left_behind, plan.repository):
            warnings += f"\n\n{left}"
    return Reply(
        f"{name} ({begun.role}, {begun.runtime}) starts in its thread, in {place}.{warnings}",
        {"id": ctx.run_id, "state": "starting"},
    )


async def _runs_already(ctx: Context[AgentServices], name: str, task: str | None, *, has_settings: bool) -> Reply:
    """Hand the task of a launch to an agent that runs, as a message.

    Raises:
        UserError: the agent is frozen.
    """
    row = await ctx.services.agents.get(name)
    if row.wanted == "frozen":
        back = command_line(f"resume {name}")
        raise UserError(
            f"{name} is frozen, with its conversation: {back} brings it back. Nothing was changed.", code="agent.frozen"
        )
    hint = f" Its settings stay as they are; {command_line(f'stop {name}')} and another launch give it new ones."
    given = hint if has_settings else ""
    if task:
        handed = await outgoing.post(ctx, name, task, mode="queue")
        return replace(
            handed, text=f"{name} runs already ({row.state}), so its task went as a message. {handed.text}{given}"
        )
    return Reply(
        f"{name} runs already ({row.state}); nothing was changed.{given}", {"id": row.launch_id, "state": row.state}
    )


async def check_place(ctx: Context[AgentServices], name: str, *, sandbox: str | None, workspace: str | None) -> None:
    """Check that a person may give an agent this sandbox and this workspace.

    Raises:
        NotPermitted: only an admin may.
    """
    services = ctx.services
    if sandbox is not None and services.planner.sandbox_kind(sandbox) == "none" and ctx.permission < ADMIN:
        raise NotPermitted(
            f"an agent without a sandbox acts as the person who runs Muster, so only an admin starts one; you are "
            f"{ctx.permission}. Leave --sandbox out, or ask an admin."
        )
    if workspace is not None and ctx.permission < ADMIN:
        placed = await asyncio.to_thread(services.planner.places, name, workspace)
        if not placed:
            raise NotPermitted(
                f"--workspace opens a folder of the person who runs Muster to an agent, so only an admin chooses one; "
                f"you are {ctx.permission}. Leave it out, or let an admin write it into roster.yaml."
            )


async def _check_topic(services: AgentServices, name: str) -> None:
    """Refuse to launch the agent of a topic, which would make it one of the roster.

    Raises:
        UserError: the agent belongs to a topic.
    """
    async with services.store.read() as tx:
        row = await agents.get(tx, name)
    if row is not None and row.purpose is not None:
        back = "resume" if row.wanted == "frozen" else "restart"
        raise UserError(
            f"{name} belongs to a topic or a run, and not to the roster. {command_line(f'{back} {name}')} brings it "
            f"back; nothing was changed.",
            code="agent.of_topic",
        )


async def hold_of(services: AgentServices, opened: Opening, by: str) -> TurnHold | None:
    """Return why the session's task must wait, or None if it can begin at once, as far as known."""
    if not isinstance(opened.step, QueueStart) or opened.step.at is None:
        return None
    person, snapshot = is_person(by), opened.snapshot
    if person and opened.cost is not None:
        found = interactive_turns.decide(opened.standings, opened.cost, snapshot.now, snapshot.policy)
        if isinstance(found, Begins):
            return None
    why = f"{opened.step.why}{tried_in_words(opened.step)}"
    hold = TurnHold(wait=TaskWait(task="", why="pace", text=why, look_at=opened.step.at), cost=opened.cost)
    return await deferred_turns.with_those_before(services, hold, opened.standings, snapshot, person=person)


async def _queue(ctx: Context[AgentServices], tx: AsyncConnection, row: AgentRow, hold: TurnHold, task: str) -> Task:
    origin = ctx.origin
    return await deferred_turns.add(
        tx,
        ctx.services,
        row,
        hold,
        task,
        cause=ctx.run_id,
        by=ctx.identity,
        connector=None if origin is None else origin.connector,
        conversation=None if origin is None else origin.conversation,
        event_id=None if origin is None else origin.event_id,
        answer_in=None,
    )


async def _budget(ctx: Context[AgentServices], name: str, budget: str) -> dict[str, str]:
    """Return the launch overrides for the given budget (fleet.roster.launch_overrides.LAUNCH_ALONE).

    Raises:
        UsageError: the budget is not a number of tokens.
        NotPermitted: the budget exceeds the current limit, and the caller is not an admin.
    """
    if ctx.services.egress_client is None:
        raise UserError("--budget needs the egress, which this Muster runs without.", code="egress.absent")
    try:
        tokens = read_tokens(budget)
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from None
    if ctx.permission >= ADMIN:
        return {"budget": str(tokens), "budget_may_raise": "yes", "budget_set_at": f"{ctx.services.clock():.3f}"}
    for limit in await holding(ctx.services):
        own = (limit.kind, limit.scope, limit.unit, limit.window) == ("allowance", f"agent:{name}", "tokens", None)
        if own and limit.amount < tokens:
            raise NotPermitted(
                f"{name} may use {limit.amount:,.0f} tokens, and only an admin gives it more; you are "
                f"{ctx.permission}. Leave --budget out, or give a lower one."
            )
    return {"budget": str(tokens)}


def request_of(plan: LaunchPlan, *, by: str, connector: str, room: str, task: str | None = None) -> LaunchRequest:
    """Return the launch request of a plan."""
    return LaunchRequest(
        name=plan.name,
        role=plan.role,
        runtime=plan.runtime,
        model=plan.model,
        sandbox=plan.sandbox,
        workspace=str(plan.workspace),
        basis=plan.basis.to_json(),
        task=task,
        by=by,
        connector=connector,
        room=room,
        alias=plan.alias,
        unsandboxed=plan.kind == "none",
    )


async def room_for(ctx: Context[AgentServices], plan: LaunchPlan, *, here: bool) -> tuple[str, str]:
    """Return the connector and conversation of an agent's thread.

    The roster's room comes first, then the room of the command or the main room, then the agent's previous room. With
    `here`, the room of the command comes before the roster's.

    Raises:
        UserError: there is no room for the thread.
    """
    services = ctx.services
    if plan.room is not None and not (here and ctx.origin is not None):
        reason = loader.unusable_room(services.settings, plan.room)
        if reason is not None:
            raise UserError(
                f"The roster has {plan.name} in the room {markdown.one_line(plan.room)}: {reason}", code="room.unusable"
            )
        connector, _, room = plan.room.partition(":")
        return connector, services.bridge.locate(connector, room)
    try:
        return services.main_room(ctx.origin)
    except UserError:
        async with services.store.read() as tx:
            row = await agents.get(tx, plan.name)
        if row is None:
            raise
        return row.connector, row.room


def warnings_of(plan: LaunchPlan) -> str:
    """Return warnings about missing restrictions of the agent; empty if there are none."""
    warnings = ""
    if plan.kind == "none":
        warnings += (
            "\n\n⚠️ It runs without a sandbox, as you: it could read your files and give Muster orders in your name."
        )
    runtime = RUNTIMES[plan.runtime]
    if not runtime.asks:
        held = "nothing else holds it" if plan.kind == "none" else "only its sandbox restricts it"
        warnings += f"\n\n⚠️ {runtime.title} never asks for permission: {held}."
    return warnings
