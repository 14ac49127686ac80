"""Runs that wait or work, as lines of the queue beside tasks. It decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.config.schema import Settings
from bot.pacing.window_loader import weigh
from bot.read_models.tasks import TaskLine
from budget.tokens import Weights
from budget.windows.fit_check import Cost
from database.queries.agents import runs
from database.queries.agents.runs import AgentRun
from database.queries.chat import questions
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import ACTIVE, IssueRun
from database.queries.spending import usage_queries
from scheduler.dispatch.task_cost_cache import projected

#: Kinds of lines: the run of an issue, and any other run.
KINDS: Final = ("issue", "run")
#: Why a run waits that an operator took off the queue (`TaskLine.why`).
HELD: Final = "held"
#: What ended runs are called as tasks are.
_ENDED_AS: Final = {"done": "done", "stopped": "cancelled"}


async def load(settings: Settings, tx: AsyncConnection, now: float) -> list[TaskLine]:
    """Return the runs that wait or work: first those of issues, as they will begin.

    Args:
        settings: what muster.yaml says.
        tx: to read from.
        now: seconds since the epoch.

    Raises:
        RegisterError: the register cannot be read.
    """
    works = {work.id: work for work in await runs.open_ones(tx)}
    block, issues = settings.forge, []
    if block is not None:
        forge = urlsplit(block.address).netloc
        issues = [run for run in await issue_runs.listed(tx, ended=0) if run.forge == forge]
    asked = {each.agent for each in await questions.pending(tx, kind=issue_runs.USED_UP)} if issues else set()
    places = 0 if block is None else block.runs
    lines = issue_lines(issues, works, await issue_runs.woken(tx) if issues else {}, asked, places=places)
    lines += [_run(work) for work in works.values() if not runs.is_round(work.id)]
    return await _with_use(settings, tx, await _with_projection(tx, lines, now))


async def ended(tx: AsyncConnection, *, since: float, limit: int) -> list[TaskLine]:
    """Return the runs that ended last, newest first, each round of an issue by itself.

    Args:
        tx: to read from.
        since: leave out those that ended before, in seconds since the epoch.
        limit: the maximum number.

    Raises:
        RegisterError: the register cannot be read.
    """
    found = await runs.last_ended(tx, limit=limit)
    return [_ended(work) for work in found if work.ended_at is not None and work.ended_at >= since]


async def _with_projection(tx: AsyncConnection, lines: Sequence[TaskLine], now: float) -> list[TaskLine]:
    """Add what is projected for issues that are not about to begin yet, by their roles."""
    costs: dict[tuple[str | None, str], Cost] = {}
    found = []
    for line in lines:
        if line.kind == "issue" and line.state == "queued" and line.projected_tokens is None:
            key = line.role, runs.kind_of(f"{line.id}-{line.attempt}")
            if key not in costs:
                costs[key] = await projected(tx, role=key[0], runtime=None, model=None, kind=key[1], now=now)
            line = replace(line, projected_tokens=costs[key].tokens, projected_usd=costs[key].usd)
        found.append(line)
    return found


async def _with_use(settings: Settings, tx: AsyncConnection, lines: Sequence[TaskLine]) -> list[TaskLine]:
    """Add what was used so far by those that work."""
    begun = [line for line in lines if line.assigned is not None and line.started_at is not None]
    asked = [(f"agent:{line.assigned}", line.started_at or 0.0) for line in begun]
    weights = Weights.of(settings.budgets.weights)
    used = dict(zip([line.id for line in begun], await usage_queries.used_many(tx, asked), strict=True))
    return [
        replace(line, used_tokens=float(weigh(used[line.id], weights)), used_usd=used[line.id].usd)
        if line.id in used
        else line
        for line in lines
    ]


def issue_lines(
    issues: Sequence[IssueRun],
    works: Mapping[str, AgentRun],
    woken: Mapping[str, Collection[str]],
    asked: Collection[str | None] = (),
    *,
    places: int,
) -> list[TaskLine]:
    """Return the runs of issues that work, and then those that wait for a place, as they will begin. Pure.

    Args:
        issues: runs that are not over, the oldest first.
        works: the open runs of agents, by id.
        woken: runs that go on, with the kinds of their reasons (`issue_runs.woken`).
        asked: agents of which a person is asked whether they go on once more.
        places: how many agents work on issues at a time.
    """
    active = [run for run in issues if run.state in ACTIVE]
    taken = sum(run.state == "running" for run in active)
    waiting = [run for run in issues if run.waits(woken) and (run.state == "queued" or run.agent not in asked)]
    lines = [_active(run, works.get(f"{run.id}-{run.round}")) for run in active]
    lines += [_waiting(run, before, taken, places) for before, run in enumerate(waiting)]
    return lines + [_issue(run, state="queued", why=HELD, reason=run.detail) for run in issues if run.is_held]


def _waiting(run: IssueRun, before: int, taken: int, places: int) -> TaskLine:
    others = "" if not before else f" {before} {'issue goes' if before == 1 else 'issues go'} before it."
    full = taken >= places
    those = f"{taken} of {places} places are taken (`forge: runs`)."
    reason = f"{those}{others}" if full or before else "It begins in a moment."
    return _issue(run, state="queued", why="place", reason=reason, attempt=run.next_round)


def _active(run: IssueRun, work: AgentRun | None) -> TaskLine:
    if work is None:
        doing = "Its commits are checked and pushed." if run.state == "checking" else None
        return _issue(run, state="running", assigned=run.agent, reason=run.detail or doing)
    line = _issue(run, state=work.state, started_at=work.started_at, **_forecast(work))
    return replace(line, assigned=run.agent) if work.state == "running" else replace(line, **_why(work))


def _issue(run: IssueRun, **values: Any) -> TaskLine:
    made = TaskLine(
        id=run.id,
        kind="issue",
        text=f"{run.reference}: {run.title}",
        role=run.role,
        agent=run.agent,
        operator=run.picked_by,
        state="queued",
        attempt=run.round,
        created_at=run.created_at,
    )
    return replace(made, **values)


def _run(work: AgentRun) -> TaskLine:
    made = TaskLine(
        id=work.id,
        kind="issue" if runs.is_round(work.id) else "run",
        text=work.prompt,
        role=work.role,
        agent=work.agent,
        assigned=None if work.state == "queued" else work.agent,
        operator=work.asked_by,
        state=work.state,
        created_at=work.created_at,
        started_at=work.started_at,
        **_forecast(work),
    )
    return replace(made, **_why(work)) if work.state == "queued" else made


def _ended(work: AgentRun) -> TaskLine:
    return replace(
        _run(work),
        text=f"{work.reference}: {work.prompt}" if work.reference else work.prompt,
        state=_ENDED_AS.get(work.state, "failed"),
        reason=work.detail,
        actual_tokens=work.tokens,
        actual_usd=work.usd,
        ended_at=work.ended_at,
    )


def _why(work: AgentRun) -> dict[str, Any]:
    """Return why a run does not begin."""
    if work.detail is None:
        return {"reason": "It begins in a moment."}
    forecast = work.forecast
    return {"why": "pace", "reason": work.detail, "look_at": None if forecast is None else forecast.opens_at}


def _forecast(work: AgentRun) -> dict[str, Any]:
    found = work.forecast
    if found is None:
        return {}
    return {
        "projected_tokens": found.tokens, "projected_usd": found.usd, "runtime": found.runtime, "model": found.model
    }  # fmt: skip
