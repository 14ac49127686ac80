"""A cache of projected task costs, which are learned from the ended tasks in the register."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from budget.costs.task_cost import LearnedCost, Past, expected, learn
from budget.dispatch.next_task import AGENT
from budget.windows.pace_admission import Cost
from database.queries.tasks import Task
from scheduler.dispatch.dispatch_inputs import Able
from scheduler.dispatch.task_history import pasts, price_of

#: Seconds until learned costs expire.
_LEARNED_S = 600.0


@dataclass(slots=True)
class TaskCosts:
    """The current knowledge of task costs."""

    _past: dict[str | None, list[Past]] = field(default_factory=dict)
    _past_at: float = 0.0
    _learned: dict[tuple[str | None, str | None, str | None, str], LearnedCost] = field(default_factory=dict)
    _price: tuple[float | None] | None = None
    """The price of a weighted token in USD across the fleet; None if it was not looked up yet."""

    def forget(self) -> None:
        """Drop the learned costs, because there are more tasks to learn from."""
        self._past.clear()
        self._learned.clear()
        self._price = None

    async def learn(self, tx: AsyncConnection, heads: Iterable[Task], now: float) -> bool:
        """Read what the projections for these tasks need. Return whether earlier knowledge had expired."""
        anew = not 0 <= now - self._past_at < _LEARNED_S
        if anew:
            self.forget()
            self._past_at = now
        # None includes all roles: the price of a token is known for the fleet before it is for a role.
        for role in {None, *(task.role for task in heads)}.difference(self._past):
            self._past[role] = await pasts(tx, role)
        return anew

    def of(self, task: Task, able: Able | None, now: float) -> Cost:
        """Return the projected cost of a task for an agent, or for any agent. `learn` must have included the task."""
        runtime, model = (None, None) if able is None else (able.agent.runtime, able.model)
        key = (task.role, runtime, model, task.kind)
        if key not in self._learned:
            past = self._past.get(task.role, [])
            self._learned[key] = learn(past, role=task.role, runtime=runtime, model=model, kind=task.kind, now=now)
        if self._price is None:
            self._price = (price_of(self._past.get(None, ()), now),)
        return expected(
            self._learned[key],
            task.estimate,
            by_agent=task.operator.startswith(AGENT),
            usd_per_token=self._price[0],
        )


async def projected(
    tx: AsyncConnection, *, role: str | None, runtime: str | None, model: str | None, kind: str, now: float
) -> Cost:
    """Return the projected cost of work that is not a task yet."""
    past, every = await pasts(tx, role), await pasts(tx, None)
    learned = learn(past, role=role, runtime=runtime, model=model, kind=kind, now=now)
    return expected(learned, usd_per_token=price_of(every, now))
