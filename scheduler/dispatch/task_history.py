"""Tasks that ended, as `budget.costs.task_cost_from_history` learns from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from budget.costs.task_cost_from_history import Past, learn
from budget.dispatch.model import AGENT
from database.queries import tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from database.queries.tasks import Task

#: Tasks of a role that are looked at: the newest.
LOOKED_AT = 300


async def pasts(tx: AsyncConnection, role: str | None, *, limit: int = LOOKED_AT) -> list[Past]:
    """Return what tasks of a role came to, newest first; of all roles without one. Cancelled ones are not among them:
    they say what was used until someone lost interest."""
    found = await tasks.ended(tx, role=role, limit=limit)
    return [past for each in found if each.state != "cancelled" and (past := past_of(each)) is not None]


def past_of(task: Task) -> Past | None:
    """Return one that ended; None: it did not, or no one knows what it used."""
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
    """Return what a weighted token cost in US dollars, whoever used it; None: of no task a price is known.

    Args:
        past: tasks of all roles.
        now: seconds since the epoch.
    """
    return learn(past, role=None, now=now).usd_per_token
