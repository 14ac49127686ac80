"""Carries out dispatch decisions, each in one transaction with all its consequences.

The transaction accepts only a task that is still queued and an agent that still has none. So a task is assigned once,
to one agent, even after a crash or a repeated decision. Each attempt at a task is a message of its own
(`fleet.control.task_attempt_ids`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from budget.dispatch import next_task
from budget.dispatch.next_task import Assign, TaskWait
from core.crash_points import declare
from core.errors import RegisterError
from database.engine.store import Store
from database.queries import tasks
from database.queries.task_states import TaskEvent
from database.queries.tasks import Task
from fleet.control.task_attempt_ids import message_of
from scheduler.dispatch.agent_availability import keeps_agent
from scheduler.dispatch.dispatch_inputs import Able
from scheduler.dispatch.start_failures import StartFailures

log = structlog.get_logger(__name__)

DISPATCH = declare("task.dispatch")
REFUSE = declare("task.refuse")
WAITS = declare("task.waits")

#: A start time that moves by less than this share of the wait, or by less than these seconds, counts as unchanged.
_SAME_SHARE = 0.1
_SAME_S = 60.0


class TaskAssigner(Protocol):
    """The actions on the fleet and the messages about them (bot.tasks.assignment.TaskAssignment)."""

    async def able(self, live: Sequence[Task]) -> Sequence[Able]:
        """Return the existing agents, and those that can be started."""

    async def hand_over(self, tx: AsyncConnection, task: Task, agent: str) -> bool:
        """Send the message that carries the task, and report it. Return False, without any effect, if that fails."""

    def handed_over(self, agent: str) -> None:
        """Act on the commit of what `hand_over` wrote."""

    async def start(self, task: Task, agent: str) -> TaskWait | None:
        """Start an agent for a task, with a model that has room. Return what prevents the start, or None."""

    async def refused(self, tx: AsyncConnection, task: Task, why: str) -> None:
        """Report that a task is refused."""

    async def waits(self, tx: AsyncConnection, task: Task, wait: TaskWait) -> None:
        """Report that a task, given in its previous state, now waits like this, if that is worth a message."""

    def told(self) -> None:
        """Act on the commit of the reports."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskTransitions:
    store: Store
    clock: Callable[[], float]
    assigner: TaskAssigner
    unanswered_s: Callable[[], float]
    """Seconds for which an agent gets no other task while one of its tasks waits for a person's answer."""
    not_started: StartFailures = field(default_factory=StartFailures)

    async def assign(self, task: Task, step: Assign, able: Able) -> None:
        """Assign a task to an agent.

        Raises:
            RegisterError: the agent is gone, or the register cannot be used.
        """
        agent = able.agent
        now = self.clock()
        attempt = task.attempt + 1
        given: dict[str, Any] = {
            "attempt": attempt,
            "assigned": agent.name,
            "runtime": agent.runtime,
            "model": able.model,
            "account": agent.account,
            "role": task.role or agent.role,
            "message": message_of(task.id, attempt),
            "projected_tokens": step.cost.tokens,
            "projected_usd": step.cost.usd,
            "weight": None if step.charge is None else step.charge.weight,
            "saves_from": None,
            "dispatched_at": now,
            "why": None,
            "reason": step.why,
            "look_at": None,
        }
        handed = replace(task, state="dispatched", **given)
        decision = {"agent": agent.name, "tokens": step.cost.tokens, "usd": step.cost.usd, "why": step.why}
        async with self.store.write(DISPATCH) as tx:
            own = await tasks.of_agent(tx, agent.name)
            if task.kind != next_task.TURN and any(keeps_agent(each, now, self.unanswered_s()) for each in own):
                return  # it was given another since it was looked at
            if not await tasks.change(
                tx, task.id, TaskEvent.ASSIGN, attempt_is=task.attempt, now=now, decision=decision, **given
            ):
                return
            if not await self.assigner.hand_over(tx, handed, agent.name):
                raise RegisterError(f"{agent.name} is gone since it was looked at; nothing was given to it.")
            if step.charge is not None:
                await tasks.keep_queues(tx, step.charge.on(await tasks.queues(tx)), now=now)
        log.info("task.dispatched", task=task.id, agent=agent.name, attempt=attempt)
        self.assigner.handed_over(agent.name)

    async def start(self, task: Task, agent: str, now: float) -> None:
        """Start an agent for a task. Record what prevents the start, or that it is under way."""
        held = await self.assigner.start(task, agent)
        if held is None:
            log.info("task.starts_agent", task=task.id, agent=agent)
            held = TaskWait(task=task.id, why="starting", text=f"{agent} is starting for it.")
        self.not_started.note(task, agent, held, now)

    async def refuse(self, task: Task, why: str) -> None:
        """End a task that can never begin."""
        now = self.clock()
        ended: dict[str, Any] = {
            "summary": why,
            "why": None,
            "reason": None,
            "look_at": None,
            "ended_at": now,
        }
        async with self.store.write(REFUSE) as tx:
            if await tasks.change(tx, task.id, TaskEvent.REFUSE, attempt_is=task.attempt, now=now, **ended):
                await self.assigner.refused(tx, task, why)
        log.info("task.refused", task=task.id, reason=why)
        self.assigner.told()

    async def wait(self, heads: Mapping[str, Task], waits: Sequence[TaskWait], now: float) -> None:
        """Store why tasks wait, for those whose stored reason is outdated."""
        news = [(heads[wait.task], wait) for wait in waits if is_news(heads[wait.task], wait, now)]
        if not news:
            return
        async with self.store.write(WAITS) as tx:
            for task, wait in news:
                values: dict[str, Any] = {"why": wait.why, "reason": wait.text, "look_at": wait.look_at}
                if wait.saves_from is not None:
                    values["saves_from"] = wait.saves_from
                if wait.never:
                    values["lane"] = next_task.aside(task.lane)
                if wait.cost is not None:
                    values |= {"projected_tokens": wait.cost.tokens, "projected_usd": wait.cost.usd}
                if await tasks.change(tx, task.id, TaskEvent.HOLD, now=now, step=task.why != wait.why, **values):
                    await self.assigner.waits(tx, task, wait)
        self.assigner.told()


def is_news(task: Task, wait: TaskWait, now: float) -> bool:
    """Return whether the register has another reason or time for a task's wait."""
    if task.why != wait.why or (task.look_at is None) != (wait.look_at is None):
        return True
    if wait.saves_from != task.saves_from and wait.saves_from is not None:
        return True
    if wait.never and task.lane != next_task.aside(task.lane):
        return True
    if task.look_at is None or wait.look_at is None:
        return task.reason != wait.text
    return abs(task.look_at - wait.look_at) > max(_SAME_S, _SAME_SHARE * abs(wait.look_at - now))
