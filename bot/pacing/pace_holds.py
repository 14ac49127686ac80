"""Which tasks, runs and agents the pace holds, or will hold at the present rate. It decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from bot.pacing import run_queue
from bot.pacing.services import PacingServices
from bot.pacing.window_series import counted
from bot.pacing.window_status import PaceSnapshot
from bot.read_models.limits import MOST_HOLDS, PaceHold, WindowPace
from bot.read_models.tasks import TaskLine
from bot.text import markdown
from budget.windows.even_spread_line import PacePolicy
from budget.windows.fit_check import Cost, WindowDemand, need, opens
from budget.windows.overrun_allowance import overrun
from budget.windows.pace_admission import WindowState
from budget.windows.use_outlook import held_from
from budget.windows.window_state import Urgency
from budget.windows.work_draw import WorkDraw
from database.queries import tasks
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.tasks import Task

#: Maximum number of running agents, of queued tasks and of queued runs that are looked at.
_AGENTS: Final = 24
_TASKS: Final = 100
#: Characters of a task's text.
_TEXT: Final = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldWork:
    """A queued task or run, or a running agent, and the windows that it draws on."""

    draws: frozenset[str]
    """Keys of windows."""
    task: Task | TaskLine | None = None
    agent: str | None = None


async def with_holds(
    services: PacingServices, snapshot: PaceSnapshot, windows: Sequence[WindowPace]
) -> list[WindowPace]:
    """Return the windows with what each of them holds or will hold.

    Raises:
        RegisterError: the register cannot be read.
    """
    if all(each.used is None for each in windows):
        return list(windows)
    async with services.store.read() as tx:
        every = {row.name: row for row in await agents.every(tx)}
        queued: list[Task | TaskLine] = [*await tasks.in_states(tx, ["queued"], limit=_TASKS)]
        of_runs = await run_queue.load(services.settings, tx, snapshot.now)
        queued += [line for line in of_runs if line.state == "queued" and line.why != run_queue.HELD][:_TASKS]
    running = [row for row in every.values() if row.wanted == "running" and services.agents.is_ours(row)][:_AGENTS]
    draws = {row.name: await _draws(services, row, snapshot) for row in running}
    work = [HeldWork(agent=row.name, draws=draws[row.name]) for row in running]
    work += [HeldWork(task=task, draws=_draws_of_task(task, every, draws, snapshot)) for task in queued]
    return [
        replace(each, holds=holds_of(each, snapshot.standings[each.key], work, snapshot, services.redact))
        for each in windows
    ]


def holds_of(
    window: WindowPace,
    standing: WindowState,
    work: Sequence[HeldWork],
    snapshot: PaceSnapshot,
    redact: Callable[[str], str],
) -> tuple[PaceHold, ...]:
    """Return what one window holds or will hold, the earliest first. Pure."""
    if window.used is None:
        return ()
    standing, now, policy = counted(standing, window), snapshot.now, snapshot.policy
    rate = 0.0 if window.projection is None else window.projection.rate or 0.0
    found = []
    for each in work:
        if window.key not in each.draws:
            continue
        if each.task is not None:
            held = _task(each.task, standing, rate, now, policy, redact)
        else:
            held = _agent(each.agent or "", window, standing, now, policy)
        if held is not None:
            found.append(held)
    return tuple(sorted(found, key=lambda each: (each.since, each.what, each.name))[:MOST_HOLDS])


def _task(
    task: Task | TaskLine,
    standing: WindowState,
    rate: float,
    now: float,
    policy: PacePolicy,
    redact: Callable[[str], str],
) -> PaceHold | None:
    urgency = cast("Urgency", task.urgency)
    cost = Cost(tokens=task.projected_tokens or 0.0, usd=task.projected_usd)
    wanted = need(standing.window, cost)
    since = held_from(standing, rate, wanted or 0.0, now, policy, urgency=urgency)
    if since is None:
        return None
    until = None
    if since <= now:
        ask = WindowDemand(wanted=wanted or 0.0, cost=cost, urgency=urgency, policy=policy)
        until = opens(standing, ask, now)
    return PaceHold(
        what="run" if task.kind in run_queue.KINDS else "task",
        name=task.id,
        agent=task.assigned or task.agent,
        text=markdown.gist(task.text, redact, _TEXT),
        needs=wanted if task.projected_tokens is not None or task.projected_usd is not None else None,
        since=since,
        until=until,
    )


def _agent(name: str, window: WindowPace, standing: WindowState, now: float, policy: PacePolicy) -> PaceHold | None:
    since = None if window.projection is None else window.projection.throttles_at
    if since is None:
        return None
    allowed = overrun(standing, now, policy) if since <= now else None
    until = window.resets_at if since <= now else None
    if allowed is not None:
        until = allowed.passes(standing.window.least_use, now)
    return PaceHold(what="agent", name=name, agent=name, since=since, until=until)


async def _draws(services: PacingServices, row: AgentRow, snapshot: PaceSnapshot) -> frozenset[str]:
    return frozenset(each.window.key for each in await services.assignment.draw(row, snapshot))


def _draws_of_task(
    task: Task | TaskLine, every: Mapping[str, AgentRow], draws: Mapping[str, frozenset[str]], snapshot: PaceSnapshot
) -> frozenset[str]:
    """Return the windows of the agent that has the task, or of a running one that could have it."""
    name = task.assigned or task.agent
    able = [row.name for row in every.values() if task.role in (None, row.role) and row.name in draws]
    for each in [name] if name is not None else able:
        if each in draws:
            return draws[each]
    row = None if name is None else every.get(name)
    role = task.role if row is None else row.role
    draw = WorkDraw(agent=name, role=role, model=task.model, account=task.account)
    return frozenset(each.window.key for each in snapshot.for_draw(draw))
