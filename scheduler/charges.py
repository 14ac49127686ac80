"""What the flows of a task were charged for it, made right when it is known what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from budget import fairness
from register.queries import tasks
from scheduler.queue import head_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from register.queries.tasks import Task


def charged_flows(task: Task) -> tuple[str, str]:
    """Operator and role that a task was charged to."""
    return head_of(task, {}).flow


async def correct(tx: AsyncConnection, task: Task, actual: float, *, now: float) -> None:
    """Charge the flows of a task what it cost instead of what was projected."""
    if task.projected_tokens is None:
        return
    operator, role = charged_flows(task)
    deficits = await tasks.deficits(tx)
    after = fairness.corrected(deficits, operator=operator, role=role, charged=task.projected_tokens, actual=actual)
    await tasks.keep_deficits(tx, after, now=now)
