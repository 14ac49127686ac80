"""What kept agents from being started for work, and for how long that holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from budget.dispatch.next_task import AGENT

if TYPE_CHECKING:
    from budget.dispatch.next_task import TaskWait
    from database.queries.tasks import Task

#: It is looked at again after so long, if it does not say when itself; seconds.
_TRY_S = 300.0
#: and never sooner than after so long, seconds.
_LEAST_TRY_S = 5.0

#: What of a task matters to whether an agent is started for it.
_Work: TypeAlias = tuple[str, str, float | None, float | None, bool]


@dataclass(slots=True)
class StartFailures:
    _kept: dict[tuple[_Work, str], tuple[float, float, TaskWait]] = field(default_factory=dict)
    """From when until when it holds that this agent is not started for such work, and why. What holds of one task holds
    of all that are alike, or each would ask of each agent in turn."""

    def why(self, task: Task, agent: str, now: float) -> TaskWait | None:
        """Return what keeps an agent from being started for a task; None: nothing that is known."""
        since, until, wait = self._kept.get((_work(task), agent), (0.0, 0.0, None))
        return wait if since <= now < until else None

    def note(self, task: Task, agent: str, wait: TaskWait, now: float) -> None:
        """It was found that an agent is not started for a task."""
        self._kept = {key: kept for key, kept in self._kept.items() if kept[0] <= now < kept[1]}
        until = wait.look_at if wait.look_at is not None else now + _TRY_S
        if until < now + _LEAST_TRY_S:
            # What is past by now would have it tried again and again.
            until = now + _LEAST_TRY_S
            wait = replace(wait, look_at=None if wait.look_at is None else until)
        self._kept[_work(task), agent] = (now, until, wait)

    def forget(self) -> None:
        """A window is not what it was: all may be started."""
        self._kept.clear()


def _work(task: Task) -> _Work:
    return (task.kind, task.urgency, task.estimate, task.deadline, task.operator.startswith(AGENT))
