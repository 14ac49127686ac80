"""Immediate begin of a run that waits: for a place, for the pace, or because it was taken off the queue."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.pacing import next_opening
from bot.runs import run_lookup
from bot.runs.services import RunServices
from bot.tasks import run_now
from bot.text import markdown
from bot.text.errors import UserError
from budget.windows.pace_admission import Cost, Leave
from database.queries.agents import runs
from database.queries.agents.runs import ISSUE, AgentRun
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import ACTIVE, IssueRun


async def begin_now(ctx: Context[RunServices], wanted: str) -> Reply:
    """Begin a run, and authorize for an hour what it lacks."""
    services = ctx.services
    async with services.store.read() as tx:
        found = await run_lookup.find(tx, wanted)
        is_begun = isinstance(found, AgentRun) or found.state in ACTIVE
        work = await run_lookup.find_work(tx, wanted) if is_begun else None
    if work is not None and work.state != "queued":
        raise _not_waiting(work)
    leave = await _missing(services, found.role, work)
    # As with a task, the lines are redrawn first: after a crash, use from here on still counts.
    for scope in {each.scope for each in leave}:
        await services.pace.redraw("authorization", scope=scope)

    async def act(tx: AsyncConnection) -> None:
        if work is not None:
            waits = await runs.change(tx, work.id, only=["queued"], look_at=None)
        else:
            waits = isinstance(found, IssueRun) and await _begin_issue(tx, services, found)
        if not waits:
            raise _not_waiting(found)
        await run_now.authorize(tx, f"runs now {ctx.run_id}", leave, by=ctx.identity, now=services.clock())

    await ctx.commit("now", act)
    await run_now.begun(services)
    services.runs.wake()
    if services.run_owner is not None:
        services.run_owner.wake()
    data = {"id": found.id, "state": "running", "authorized": [run_now.leave_json(each) for each in leave]}
    return Reply(f"▶️ Run {markdown.code(found.id)} begins now{run_now.authorized(leave)}.", data)


async def _begin_issue(tx: AsyncConnection, services: RunServices, run: IssueRun) -> bool:
    if services.run_owner is None:
        raise UserError(
            "muster.yaml names no forge, so the run of an issue cannot begin; nothing was changed.",
            code="forge.absent",
        )
    if run.is_held:
        await issue_runs.change(tx, run.id, only=["queued"], detail=None)
    elif not run.waits(await issue_runs.woken(tx)):
        return False
    return await services.run_owner.begin(tx, run)


async def _missing(services: RunServices, role: str, work: AgentRun | None) -> Sequence[Leave]:
    """Return what must be authorized for a run to begin now.

    Raises:
        UserError: no authorization lets it begin.
    """
    forecast = None if work is None else work.forecast
    if forecast is not None:
        cost = Cost(tokens=forecast.tokens, usd=forecast.usd)
    else:
        kind = ISSUE if work is None else runs.kind_of(work.id)
        cost = await services.dispatcher.cost_of(role=role, runtime=None, model=None, kind=kind)
    runtime, model = (None, None) if forecast is None else (forecast.runtime, forecast.model)
    waits = (await next_opening.prospect(services, cost, role=role, runtime=runtime, model=model)).waits
    if waits is not None and not waits.leave:
        raise UserError(f"No authorization lets it begin now: {waits.text}", code="run.not_authorizable")
    return () if waits is None else waits.leave


def _not_waiting(run: AgentRun | IssueRun) -> UserError:
    return UserError(
        f"Run {markdown.code(run.id)} does not wait ({run.state}); nothing was changed.", code="run.not_waiting"
    )
