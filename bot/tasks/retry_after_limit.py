"""Retries after limits: whether a limit or the pace made a task's turn fail, and when the task is examined again.

Meeting a limit does not count as an attempt. The task returns to the queue, and the pace decides how long it waits.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from budget.limits.request_admission import AHEAD
from database.queries.agents import auto_resume
from database.queries.tasks import Task

#: Shortest and longest pause in seconds if the end of a limit is unknown; it doubles with each attempt.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 6 * 3_600.0
#: Number of attempts after which limits use up retries: something may provoke them.
MOST_MET: Final = 10
#: Text in the egress's message about a limit with a window (budget.limits.request_admission). It identifies a limit
#: even before the egress's report is copied.
BEGINS_ANEW: Final = "It begins anew at "
#: Tolerance in seconds between records of the egress and the agent host, which write at different times.
_APART_S = 10.0


async def again_at(tx: AsyncConnection, task: Task, why: str, now: float) -> float | None:
    """Return when to examine a task again that met a limit with a window, or None if it failed for another reason.

    Args:
        tx: the transaction in which the turn failed.
        task: the task before the failure.
        why: the complete error text.
        now: seconds since the epoch.
    """
    if task.attempt > MOST_MET or task.assigned is None:
        return None
    begun = (now if task.started_at is None else task.started_at) - _APART_S
    met = [
        each
        for each in await auto_resume.waiting(tx, agent=task.assigned)
        if each.stopped_at >= begun and not each.scope.startswith("launch:")
    ]
    if not met and BEGINS_ANEW not in why and AHEAD not in why:
        return None
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (task.attempt - 1))
    # The queue itself knows how long the pace holds a task, and what lets it begin earlier.
    return max([now + pause, *(each.resume_at or 0.0 for each in met if not each.is_ahead)])
