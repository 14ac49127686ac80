"""What a decision on the queue rests on: the register, who can do something, the windows, and what work costs.

Read here, and put together into the one value that `budget.dispatch.next_task.decide` is given; nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from budget.dispatch import next_task
from budget.dispatch.next_task import LaneHead, LiveTask
from database.queries import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from budget.dispatch.next_task import DispatchAgent, DispatchLimits, DispatchPolicy, TaskWait
    from budget.windows.pace_admission import Cost, PacePolicy, WindowState
    from database.queries.tasks import Task


class WindowSnapshot(Protocol):
    """Every window at one moment (bot.pacing.snapshot.PaceSnapshot)."""

    @property
    def now(self) -> float: ...
    @property
    def policy(self) -> PacePolicy: ...

    def for_draw(
        self,
        *,
        agent: str | None = None,
        role: str | None = None,
        runtime: str | None = None,
        model: str | None = None,
        profiles: Sequence[str] = (),
        provider: str | None = None,
        account: str | None = None,
        host: bool = True,
    ) -> Sequence[WindowState]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Able:
    """An agent that tasks may be given to, and what its work draws on."""

    agent: DispatchAgent
    model: str | None = None
    provider: str | None = None
    profiles: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskQueue:
    """The queue as the register has it at one moment."""

    heads: Mapping[str, Task]
    """The first task of each lane, by its id."""
    live: Sequence[Task]
    ahead: Mapping[str, float]
    """How far each queue is ahead of the lowest busy one (budget.dispatch.fair_queueing)."""
    parents: Mapping[str, str]
    """Which agent had the parent of a head, by the parent's id."""

    @classmethod
    async def read(cls, tx: AsyncConnection) -> TaskQueue | None:
        """None: nothing waits."""
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
        """Return what a decision rests on besides windows, settings and the time."""
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
        """Return what is decided on.

        Args:
            able: the agents by name.
            windows: as they stand.
            limits: how many tasks may be under way at once.
            policy: how tasks are dispatched.
            cost_of: what a task is projected to cost by an agent, or by whoever does it.
            not_started: what is known to keep an agent, named, from being started for a task at that time.
        """
        draws: dict[str, Sequence[WindowState]] = {}
        costs: dict[tuple[str, str | None], Cost] = {}

        def draw(agent: DispatchAgent) -> Sequence[WindowState]:
            if agent.name not in draws:
                one = able[agent.name]
                draws[agent.name] = windows.for_draw(
                    agent=agent.name,
                    role=agent.role,
                    runtime=agent.runtime,
                    model=one.model,
                    profiles=one.profiles,
                    provider=one.provider,
                    account=agent.account,
                )
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
    """Return a task as the first of its lane; `parents`: which agent had its parent, by the parent's id."""
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


def keeps_agent(task: Task, now: float, unanswered_s: float) -> bool:
    """Return whether the agent that has a task gets no other one.

    A held message keeps no other task away. A task that waits for a person does so for `unanswered_s` seconds.
    """
    if task.kind == next_task.TURN:
        return False
    return task.state != "waiting" or now - task.updated_at < unanswered_s
