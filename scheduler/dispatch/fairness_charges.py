"""The correction of a task's charge once its actual cost is known (budget.dispatch.fair_queueing)."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from budget.dispatch import fair_queueing
from database.queries import tasks
from database.queries.tasks import Task
from scheduler.dispatch.dispatch_inputs import head_of


async def correct(tx: AsyncConnection, task: Task, actual: float, *, now: float) -> None:
    """Charge the queue of a task its actual cost instead of its projected cost."""
    if task.projected_tokens is None or task.weight is None:
        return
    ahead, queue = await tasks.queues(tx), head_of(task, {}).queue
    waits = any(
        fair_queueing.queue_of(task.urgency, payer or operator) == queue
        for operator, payer in await tasks.waiting(tx, task.urgency)
    )
    after = fair_queueing.settled(
        ahead.get(queue, 0.0), weight=task.weight, charged=task.projected_tokens, actual=actual, waits=waits
    )
    await tasks.keep_queues(tx, {**ahead, queue: after}, now=now)
