"""Whether an agent is free for another task."""

from __future__ import annotations

from budget.dispatch import next_task
from database.queries.tasks import Task


def keeps_agent(task: Task, now: float, unanswered_s: float) -> bool:
    """Return whether a task keeps its agent from other tasks.

    A person's message never does. A task that waits for a person does so for `unanswered_s` seconds.
    """
    if task.kind == next_task.TURN:
        return False
    return task.state != "waiting" or now - task.updated_at < unanswered_s
