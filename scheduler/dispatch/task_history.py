"""Ended tasks in the form from which `budget.costs.task_cost` learns."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from budget.costs.task_cost import Past, learn
from budget.dispatch.model import AGENT
from database.queries import tasks
from database.queries.tasks import Task

#: The number of newest tasks per role to learn from.
LOOKED_AT = 300


async def pasts(tx: AsyncConnection, role: str | None) -> list[Past]:
    """Return the costs of a role's ended tasks, or of all roles' tasks, newest first.

    Canceled tasks are excluded: they only show the usage up to the cancellation.
    """
    found = await tasks.ended(tx, role=role, limit=LOOKED_AT)
    return [past for each in found if each.state != "cancelled" and (past := past_of(each)) is not None]


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


def price_of(past: Sequence[Past], now: float) -> float | None:
    """Return the price of a weighted token in USD across all tasks, or None if no task has a known price.

    Args:
        past: tasks of all roles.
        now: seconds since the epoch.
    """
    return learn(past, role=None, now=now).usd_per_token
