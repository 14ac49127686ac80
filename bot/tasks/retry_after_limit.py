"""Whether a task's turn failed because of a limit or the pace, and when the task is looked at again then.

To meet a limit is no attempt of its own: the task goes back into the queue, where the pace says until when it waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from budget.limits.request_admission import AHEAD
from database.queries.agents import auto_resume

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from database.queries.tasks import Task

#: Before a task is looked at again whose limit no one knows the end of; it doubles with each attempt. Seconds.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 6 * 3_600.0
#: A task that meets limits more often than that uses up its retries with it: perhaps it is made to.
MOST_MET: Final = 10
#: What the egress says of a limit with a window (budget.limits.request_admission), whether or not its own word of it
#: was copied yet.
BEGINS_ANEW: Final = "It begins anew at "
#: The clocks of egress and agent host are one, and what they write is not written at the same moment; seconds.
_APART_S = 10.0


async def again_at(tx: AsyncConnection, task: Task, why: str, now: float) -> float | None:
    """Return when a task is looked at again that met a limit with a window; None: it failed for something else.

    Args:
        tx: the transaction in which its turn failed.
        task: as it was until then.
        why: in words, whole.
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
    # Of the pace the queue knows itself until when it waits, and what lets it begin before.
    return max([now + pause, *(each.resume_at or 0.0 for each in met if not each.is_ahead)])
