"""Ended tasks and rounds of issues in the form from which `budget.costs.task_cost` learns."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from budget.costs.task_cost import Past, learn
from budget.dispatch.model import AGENT
from database.queries import tasks
from database.queries.agents import runs
from database.queries.agents.runs import AgentRound, forecast_of, kind_of
from database.queries.tasks import Task

#: The number of newest tasks per role to learn from.
LOOKED_AT = 300


async def pasts(tx: AsyncConnection, role: str | None) -> list[Past]:
    """Return the costs of a role's ended tasks and rounds of issues, or of all roles', newest first.

    Canceled tasks and stopped rounds are excluded: they only show the usage up to the cancellation.
    """
    found = await tasks.ended(tx, role=role, limit=LOOKED_AT)
    of_tasks = [past for each in found if each.state != "cancelled" and (past := past_of(each)) is not None]
    of_rounds = map(past_of_round, await runs.ended_rounds(tx, role, limit=LOOKED_AT))
    return sorted([*of_tasks, *of_rounds], key=lambda past: past.ended_at, reverse=True)


def past_of(task: Task) -> Past | None:
    """Return the cost of an ended task, or None if it has not ended or its usage is unknown."""
    if task.ended_at is None or not task.actual_tokens:
        return None  # what nothing was used for came to no turn, and says nothing of such work
    return Past(
        role=task.role,
        runtime=task.runtime,
        model=task.model,
        kind=task.kind,
        tokens=task.actual_tokens,
        usd=task.actual_usd,
        estimated_tokens=task.projected_tokens,
        said=None if task.operator.startswith(AGENT) else task.estimate,
        ended_at=task.ended_at,
    )


def past_of_round(work: AgentRound) -> Past:
    """Return the cost of an ended round of an issue, whose use is known."""
    forecast = forecast_of(work.settings)
    return Past(
        role=work.role,
        runtime=None if forecast is None else forecast.runtime,
        model=None if forecast is None else forecast.model,
        kind=kind_of(work.id),
        tokens=work.tokens or 0.0,
        usd=work.usd,
        estimated_tokens=None if forecast is None else forecast.tokens,
        ended_at=work.ended_at or work.created_at,
    )


def price_of(past: Sequence[Past], now: float) -> float | None:
    """Return the price of a weighted token in USD across all tasks, or None if no task has a known price.

    Args:
        past: tasks of all roles.
        now: seconds since the epoch.
    """
    return learn(past, role=None, now=now).usd_per_token
