"""What prevented agents from starting for tasks, and for how long that applies."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from budget.dispatch.next_task import AGENT, TaskWait
from database.queries.tasks import Task

#: Seconds until the next attempt if the wait names no time.
_TRY_S = 300.0
#: The minimum number of seconds until the next attempt.
_LEAST_TRY_S = 5.0

#: The properties of a task that decide whether an agent is started for it.
_Work: TypeAlias = tuple[str, str, float | None, float | None, bool]


@dataclass(slots=True)
class StartFailures:
    _kept: dict[tuple[_Work, str], tuple[float, float, TaskWait]] = field(default_factory=dict)
    """The times from and until which a failure applies, and its reason, by work and agent.

    Equal tasks share an entry, so that not every task tries every agent in turn.
    """

    def why(self, task: Task, agent: str, now: float) -> TaskWait | None:
        """Return what prevents an agent from starting for a task, or None if nothing is known."""
        since, until, wait = self._kept.get((_work(task), agent), (0.0, 0.0, None))
        return wait if since <= now < until else None

    def note(self, task: Task, agent: str, wait: TaskWait, now: float) -> None:
        """Record what prevents an agent from starting for a task."""
        self._kept = {key: kept for key, kept in self._kept.items() if kept[0] <= now < kept[1]}
        until = wait.look_at if wait.look_at is not None else now + _TRY_S
        if until < now + _LEAST_TRY_S:
            # A time in the past would cause attempts without a pause.
            until = now + _LEAST_TRY_S
            wait = replace(wait, look_at=None if wait.look_at is None else until)
        self._kept[_work(task), agent] = (now, until, wait)

    def forget(self) -> None:
        """Forget all failures, because a window changed."""
        self._kept.clear()


def _work(task: Task) -> _Work:
    return (task.kind, task.urgency, task.estimate, task.deadline, task.operator.startswith(AGENT))
