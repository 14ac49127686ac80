"""The inputs of a dispatch decision: the register, the available agents, the windows, and the projected costs.

This module reads them and builds the one value that `budget.dispatch.next_task.decide` takes. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from budget.dispatch import next_task
from budget.dispatch.next_task import DispatchAgent, DispatchLimits, DispatchPolicy, LaneHead, LiveTask, TaskWait
from budget.windows.pace_admission import Cost, PacePolicy, WindowState
from budget.windows.work_draw import WorkDraw
from database.queries import tasks
from database.queries.tasks import Task


class WindowSnapshot(Protocol):
    """All windows at one moment (bot.pacing.window_status.PaceSnapshot)."""

    @property
    def now(self) -> float: ...
    @property
    def policy(self) -> PacePolicy: ...

    def for_draw(self, draw: WorkDraw) -> Sequence[WindowState]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Able:
    """An agent that can get tasks, and what its work draws on."""

    agent: DispatchAgent
    model: str | None = None
    provider: str | None = None
    profiles: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskQueue:
    """The queue in the register at one moment."""

    heads: Mapping[str, Task]
    """The first task of each lane, by task ID."""
    live: Sequence[Task]
    ahead: Mapping[str, float]
    """How far each queue is ahead of the lowest busy one (budget.dispatch.fair_queueing)."""
    parents: Mapping[str, str]
    """The agent of each head's parent task, by the parent's ID."""

    @classmethod
    async def read(cls, tx: AsyncConnection) -> TaskQueue | None:
        """Read the queue, or return None if no task waits."""
        heads = {task.id: task for task in await tasks.lane_heads(tx)}
        if not heads:
            return None
        return cls(
            heads=heads,
            live=await tasks.live(tx),
            ahead=await tasks.queues(tx),
            parents=await tasks.assigned(tx, {task.parent for task in heads.values() if task.parent is not None}),
        )

    def waited_on(self, able: Iterable[Able]) -> object:
        """Return the inputs of a decision except for windows, settings and the time."""
        return (
            [(task.id, task.attempt) for task in self.heads.values()],
            [(task.id, task.state) for task in self.live],
            [(each.agent.name, each.agent.role, each.agent.readiness, each.agent.account) for each in able],
        )

    def view(
        self,
        able: Mapping[str, Able],
        windows: WindowSnapshot,
        *,
        limits: DispatchLimits,
        policy: DispatchPolicy,
        cost_of: Callable[[Task, Able | None], Cost],
        not_started: Callable[[Task, str, float], TaskWait | None],
    ) -> next_task.QueueView:
        """Build the input of the decision.

        Args:
            able: the agents by name.
            windows: the current windows.
            limits: the limits on tasks that run at once.
            policy: the dispatch policy.
            cost_of: returns the projected cost of a task for an agent, or for any agent.
            not_started: returns what prevents an agent, given by name, from starting for a task at a time.
        """
        draws: dict[str, Sequence[WindowState]] = {}
        costs: dict[tuple[str, str | None], Cost] = {}

        def draw(agent: DispatchAgent) -> Sequence[WindowState]:
            if agent.name not in draws:
                one = able[agent.name]
                work = WorkDraw(
                    agent=agent.name,
                    role=agent.role,
                    model=one.model,
                    profiles=one.profiles,
                    provider=one.provider,
                    account=agent.account,
                )
                draws[agent.name] = windows.for_draw(work)
            return draws[agent.name]

        def cost(head: LaneHead, agent: DispatchAgent | None) -> Cost:
            key = (head.id, None if agent is None else agent.name)
            if key not in costs:
                costs[key] = cost_of(self.heads[head.id], None if agent is None else able[agent.name])
            return costs[key]

        return next_task.QueueView(
            now=windows.now,
            heads=[head_of(task, self.parents) for task in self.heads.values()],
            agents=[each.agent for each in able.values()],
            live=[
                LiveTask(role=task.role, runtime=task.runtime, account=task.account)
                for task in self.live
                if task.state != "waiting" and task.kind != next_task.TURN
            ],
            limits=limits,
            ahead=self.ahead,
            policy=policy,
            pacing=windows.policy,
            not_started=lambda head, agent: not_started(self.heads[head.id], agent.name, windows.now),
            draw=draw,
            cost=cost,
        )


def head_of(task: Task, parents: Mapping[str, str]) -> LaneHead:
    """Build the lane head of a task; `parents` maps the ID of a parent task to its agent."""
    return LaneHead(
        id=task.id,
        seq=task.seq,
        kind=task.kind,
        operator=task.operator,
        charged_to=task.charged_to,
        role=task.role,
        agent=task.agent,
        urgency=task.urgency,  # type: ignore[arg-type]
        created_at=task.created_at,
        deadline=task.deadline,
        not_before=task.look_at if task.why == "retry" else None,
        saves_from=task.saves_from,
        prefers=parents.get(task.parent or ""),
    )
