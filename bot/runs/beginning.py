"""The begin of a run: its agent is launched or brought back, and gets the prompt, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.launch import hold_of, request_of
from bot.pacing.session_admission import SessionPurpose, opening, settle
from bot.runs import text as run_text
from bot.runs.model import RunSettings, free_name
from bot.runs.services import RunServices
from bot.tasks import deferred_turns
from bot.tasks.deferred_turns import TurnHold
from bot.text.errors import UserError
from core.crash_points import declare
from database.queries import tasks
from database.queries.agents import agents, runs
from database.queries.agents.agents import AgentRow
from database.queries.agents.runs import AgentRun, RunForecast
from database.queries.chat import approval_rules, topics
from database.queries.spending import limits_by_command
from fleet.launch.launch_plan import LaunchPlan
from fleet.roster.launch_overrides import Basis

BEGIN = declare("runs.begin")
HOLD = declare("runs.hold")

#: In what a launch is on: the budget that holds again after a run that lowered it; empty: none.
_BEFORE_RUN = "before_run_budget"
#: Who asks for an issue's first round, as far as the pace goes: it waits as tasks do, and not as a person's message.
_QUEUE: Final = "muster:queue"
#: Seconds after which a run is tried again that could not begin, at the latest.
TRY_AGAIN_S = 30.0


class NoRoom(UserError):
    """There is no room for the agent now."""

    code = "run.no_room"


async def taken_names(tx: AsyncConnection, in_roster: Collection[str]) -> frozenset[str]:
    """Return the names that a new agent may not have: of agents, of topics, of the roster, and of open runs."""
    known = {row.name for row in await agents.every(tx)}
    return frozenset(known.union(in_roster, (run.agent for run in await runs.open_ones(tx))))


async def fresh_name(tx: AsyncConnection, services: RunServices, base: str, in_roster: Collection[str]) -> str:
    """Return `base`, or the first name like it that a new agent can have.

    No agent has it, and none ever had it as a topic's. The name of a forgotten agent is free once its folder is deleted
    and nothing refers to it any more: no task, no approval rule and no limit.
    """
    taken = await taken_names(tx, in_roster)
    while True:
        name = free_name(base, taken)
        if await topics.of_agent(tx, name) is None and not await _is_left_of(tx, services, name):
            return name
        taken |= {name}


async def _is_left_of(tx: AsyncConnection, services: RunServices, name: str) -> bool:
    """Return whether something is still there of a forgotten agent of this name, which another would inherit."""
    if await runs.last_of(tx, name) is None:
        return False
    scope = f"agent:{name}"
    return (
        services.paths.agent_folder(name).exists()
        or bool(await tasks.named(tx, name))
        or any(rule.scope == scope for rule in await approval_rules.every(tx, services.clock()))
        or any(limit.scope == scope for limit in await limits_by_command.every(tx))
    )


async def begin(services: RunServices, run: AgentRun) -> bool:
    """Launch the agent of a queued run, or bring it back, with the prompt as its message.

    Returns:
        Whether it began. False: it waits for room, or is queued no more.

    Raises:
        FleetError: the agent cannot be started; the message says what to do.
        UserError: the same.
    """
    try:
        return await (_resume(services, run) if run.resumes else _launch(services, run))
    except NoRoom as why:
        await _hold(services, run, str(why))
        return False


async def _launch(services: RunServices, run: AgentRun) -> bool:
    settings = RunSettings.from_json(run.settings)
    roster = await asyncio.to_thread(services.planner.read_roster)
    in_roster = frozenset(entry.name for entry in roster.agents)
    plan = await asyncio.to_thread(services.planner.plan, run.agent, settings.asked)
    is_round = runs.is_round(run.id)
    purpose = SessionPurpose(kind=runs.kind_of(run.id), may_refuse=False)
    opened = await opening(services, plan, purpose, asked=settings.asked)
    forecast = await _forecast(services, run, opened.plan)
    hold = await hold_of(services, opened, _QUEUE if is_round else run.asked_by)
    if hold is not None:
        await _hold(services, run, hold.wait.text, replace(forecast, opens_at=hold.wait.look_at))
        return False
    request = request_of(opened.plan, by=run.asked_by, connector=run.connector, room=run.room)
    if settings.thread is not None:
        request = request.in_thread(run_text.title(run.id, run.color), settings.thread)
    elif not settings.of_roster:
        request = replace(request, purpose=run_text.title(run.id, run.color))

    async def act(tx: AsyncConnection) -> str | None:
        found = await agents.get(tx, run.agent)
        if not settings.of_roster and found is not None and found.thread_key != settings.thread:
            # Somebody took the name meanwhile; the next look begins with another.
            name = await fresh_name(tx, services, run.agent, in_roster)
            await runs.change(tx, run.id, only=["queued"], agent=name)
            return None
        if not await _started(tx, services, run, forecast):
            return None
        row, ours = await services.agents.desired_states.launch(tx, request, run_id=launch_of(run))
        if not ours:
            raise UserError(f"{run.agent} was started by somebody else meanwhile.", code="agent.exists")
        try:
            await settle(services, tx, row, opened, has_words=True)
        except UserError as error:
            raise NoRoom(str(error)) from error
        await _hand_over(tx, services, run, row)
        return row.name

    return _began(services, await services.store.transact(BEGIN, act))


async def _resume(services: RunServices, run: AgentRun) -> bool:
    row = await services.agents.get(run.agent)
    await asyncio.to_thread(services.planner.as_it_is, row)
    hold = await deferred_turns.look(services, row, run.asked_by)
    forecast = await _forecast(services, run, row)
    if isinstance(hold, TurnHold):
        await _hold(services, run, hold.wait.text, replace(forecast, opens_at=hold.wait.look_at))
        return False
    budget = RunSettings.from_json(run.settings).asked.get("budget")

    async def act(tx: AsyncConnection) -> str | None:
        if not await _started(tx, services, run, forecast):
            return None
        if not await services.agents.desired_states.resume(tx, row, run_id=launch_of(run), by=run.asked_by):
            raise UserError(f"{run.agent} is not frozen any more.", code="agent.not_frozen")
        await agents.change(tx, run.agent, basis=_basis_with(row, budget))
        await _hand_over(tx, services, run, row)
        return row.name

    return _began(services, await services.store.transact(BEGIN, act))


def _basis_with(row: AgentRow, budget: str | None) -> dict[str, Any]:
    """Return what a resumed launch is on: as before, with the run's budget.

    What an earlier run was allowed to use is not this one's. What was said at another launch still holds, and a run can
    only lower it.
    """
    before = Basis.from_json(row.basis) or Basis(said={}, roster={})
    said = dict(before.said)
    if _BEFORE_RUN in said:
        earlier = said.pop(_BEFORE_RUN)
        said = {**said, "budget": earlier} if earlier else _without_budget(said)
    elif row.purpose is not None:
        said = _without_budget(said)  # its launch was a run as well
    if budget is not None:
        own = said.get("budget", "")
        said |= {_BEFORE_RUN: own, "budget": str(min(int(budget), int(own or budget)))}
    return replace(before, said=said).to_json()


def _without_budget(said: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in said.items() if not key.startswith("budget")}


def launch_of(run: AgentRun) -> str:
    """Return the id of the launch that a run makes."""
    return f"{runs.LAUNCH}{run.id}"


async def _forecast(services: RunServices, run: AgentRun, work: LaunchPlan | AgentRow) -> RunForecast:
    kind = runs.kind_of(run.id)
    cost = await services.dispatcher.cost_of(role=run.role, runtime=work.runtime, model=work.model, kind=kind)
    return RunForecast(tokens=cost.tokens, usd=cost.usd, runtime=work.runtime, model=work.model)


async def _started(tx: AsyncConnection, services: RunServices, run: AgentRun, forecast: RunForecast) -> bool:
    current = await runs.get(tx, run.id)
    if current is None or current.ending is not None:
        return False  # somebody ended it meanwhile
    settings = runs.with_forecast(run.settings, forecast)
    values = {
        "state": "running", "started_at": services.clock(), "look_at": None, "detail": None, "settings": settings
    }  # fmt: skip
    return await runs.change(tx, run.id, only=["queued"], **values)


async def _hand_over(tx: AsyncConnection, services: RunServices, run: AgentRun, row: AgentRow) -> None:
    await services.agents.send(tx, row, run.prompt, message_id=run.message, by=run.asked_by)


def _began(services: RunServices, agent: str | None) -> bool:
    if agent is None:
        return False
    services.agents.look_again(agent)
    services.agents.bring_mail(agent)
    services.delivery.wake()
    return True


async def _hold(services: RunServices, run: AgentRun, why: str, forecast: RunForecast | None = None) -> None:
    """Record why a run waits, what it needs, and when it is tried again."""
    now = services.clock()
    until = None if forecast is None else forecast.opens_at
    look_at = now + TRY_AGAIN_S if until is None else max(now, min(until, now + TRY_AGAIN_S))
    settings = {} if forecast is None else {"settings": runs.with_forecast(run.settings, forecast)}
    async with services.store.write(HOLD) as tx:
        await runs.change(tx, run.id, only=["queued"], detail=why[:500], look_at=look_at, **settings)
