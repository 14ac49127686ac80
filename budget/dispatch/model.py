"""The inputs and results of dispatch decisions: tasks, their lanes, agents and steps.

A waiting task blocks only similar tasks, so a decision needs only the first task of each lane. Times are seconds since
the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from budget.amounts import Unit
from budget.dispatch.fair_queueing import Charge, queue_of
from budget.windows import pace_admission as pacing
from budget.windows.pace_admission import Cost, Leave, Urgency, WindowState

URGENCIES: tuple[Urgency, ...] = ("low", "normal", "high", "critical")

#: pace, limit, unknown, price: as in `budget.windows.pace_admission.Waits`. fairness: it is not the task's turn yet.
#: concurrency: the maximum number of tasks is running. busy: all suitable agents are busy. starting: a suitable agent
#: is starting. nobody: no suitable agent can run. retry: the task failed and waits for its next attempt.
Why: TypeAlias = Literal[
    "pace", "limit", "unknown", "price", "fairness", "concurrency", "busy", "starting", "nobody", "retry"
]
#: idle: the agent can get work. busy: it has a turn, a task or a message. starting: it will be idle. down: it does not
#: run, and Muster does not start it now. startable: it does not run, and can be started. away: it is frozen or cut off.
Readiness: TypeAlias = Literal["idle", "busy", "starting", "down", "startable", "away"]

#: The kind of task that is a person's message to an agent.
TURN = "turn"
#: The longest pause before a failed task is retried, in seconds (bot.tasks.state_machine). A longer one means that the
#: clock went back.
LONGEST_RETRY_S = 3600.0
#: The prefix of the identity of an agent that requests a task.
AGENT = "agent:"


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneHead:
    """The first task of a lane."""

    id: str
    seq: int
    """The number of the task: an earlier task has a smaller one."""
    kind: str
    operator: str
    role: str | None
    agent: str | None
    """The only agent that may get the task; None for any agent of the role."""
    urgency: Urgency
    created_at: float
    deadline: float | None = None
    not_before: float | None = None
    """The earliest time of the next attempt, if the task failed."""
    charged_to: str | None = None
    """The operator whose queue it is in; None for the requester's."""
    saves_from: float | None = None
    """When the task began to save (budget.windows.large_task_accrual); None if it does not save."""
    prefers: str | None = None
    """The preferred agent, such as the one that did its parent task. The task does not wait for it."""

    @property
    def is_of_person(self) -> bool:
        """Whether a person requested the task, and not an agent or Muster itself."""
        return not self.operator.startswith((AGENT, "muster:"))

    @property
    def queue(self) -> str:
        """The queue that is charged for the task."""
        return queue_of(self.urgency, self.charged_to or self.operator)


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatchAgent:
    """An agent that can get tasks."""

    name: str
    role: str
    runtime: str
    readiness: Readiness
    account: str | None = None
    free_since: float = 0.0
    """When the agent became idle; of two idle agents, the one that is idle for longer gets the task."""
    holds: str | None = None
    """The ID of the task for which it waits for an operator's answer."""
    stopped_at: float | None = None
    """When somebody stopped the agent. A task that was requested before does not start it, since the stop is newer."""
    has_purpose: bool = False
    """Whether it was launched for a topic, a run or an issue, so that it gets only tasks that name it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveTask:
    """A running task; tasks that wait for a person are excluded."""

    role: str | None
    runtime: str | None
    account: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatchLimits:
    """The number of tasks that may run at once. An absent key sets no limit."""

    host: int | None = None
    roles: Mapping[str, int] = field(default_factory=dict)
    runtimes: Mapping[str, int] = field(default_factory=dict)
    accounts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatchPolicy:
    """The settings of dispatch."""

    start_agents: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueView:
    """All inputs of a decision."""

    now: float
    heads: Sequence[LaneHead]
    agents: Sequence[DispatchAgent]
    live: Sequence[LiveTask] = ()
    limits: DispatchLimits = field(default_factory=DispatchLimits)
    ahead: Mapping[str, float] = field(default_factory=dict)
    """How far each queue is ahead of the lowest busy one (budget.dispatch.fair_queueing)."""
    policy: DispatchPolicy = field(default_factory=DispatchPolicy)
    pacing: pacing.PacePolicy = field(default_factory=pacing.PacePolicy)
    not_started: Callable[[LaneHead, DispatchAgent], TaskWait | None] = lambda head, agent: None
    """Returns the result of the last attempt to start that agent for such a task. Only an attempt (`StartTask`) shows
    the model and account for the start, and whether they have room."""
    draw: Callable[[DispatchAgent], Sequence[WindowState]]
    """Returns the windows that the agent's work draws on, always the same ones within a decision."""
    cost: Callable[[LaneHead, DispatchAgent | None], Cost]
    """Returns the projected cost of a task for this agent or any agent, always the same within a decision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assign:
    """The step that assigns the task to this agent."""

    task: str
    agent: str
    cost: Cost
    why: str
    charge: Charge | None = None
    """The charge of the task's queue; None for a person's message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartTask:
    """The step that starts this agent for the task."""

    task: str
    agent: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RefuseTask:
    """The step that refuses a task, because it cannot begin before its deadline."""

    task: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskWait:
    """The reason why a task waits."""

    task: str
    why: Why
    text: str
    """A sentence for people, without time and command."""
    look_at: float | None = None
    """When the task may be able to begin if no event happens before; None if only an event helps."""
    windows: tuple[str, ...] = ()
    """The keys of the windows that hold it."""
    turn: bool = False
    """Whether only the line holds it, so that other tasks on these windows wait for it."""
    scope: str | None = None
    """The scope of that window."""
    authorize: float | None = None
    """The amount to authorize, in `unit`, so that it can begin now."""
    unit: Unit | None = None
    leave: Sequence[Leave] = ()
    """All authorizations that would let it begin now; empty if they would not help."""
    critical: bool = False
    """Whether it is beyond a limit that only critical work may pass."""
    cost: Cost | None = None
    never: bool = False
    """Whether it exceeds a whole window, so that only another limit helps."""
    large: bool = False
    """Whether it needs more than a line grants in a day (budget.windows.large_task_accrual)."""
    too_large: bool = False
    """Whether it is so large that nothing is saved for it."""
    saves_from: float | None = None
    """When the task began to save, if it does."""
    reset_unknown: bool = False
    """Whether no time is known because the reset of the window is unknown."""

    @classmethod
    def of(cls, found: pacing.Waits, *, task: str = "") -> TaskWait:
        """Build the wait of a task, or of work that is not a task yet, for windows."""
        return cls(
            task=task,
            why=found.why,
            text=found.text,
            look_at=found.at,
            windows=(found.window, *found.also),
            scope=found.scope,
            authorize=found.authorize,
            unit=found.unit,
            leave=found.leave,
            critical=found.critical,
            never=found.why == "limit" and found.at is None and not found.reset_unknown,
            large=found.large,
            too_large=found.too_large,
            turn=found.turn,
            reset_unknown=found.reset_unknown,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatchDecision:
    """The next step, if there is one, and the waits of the heads."""

    step: Assign | StartTask | RefuseTask | None
    waits: Sequence[TaskWait]
    """The waits of all heads, or with a step, of some heads."""

    @property
    def look_at(self) -> float | None:
        """When to decide again if no event happens before."""
        return min((wait.look_at for wait in self.waits if wait.look_at is not None), default=None)


def lane_of(
    *, kind: str, operator: str, role: str | None, agent: str | None, urgency: str, estimate: float | None = None
) -> str:
    """Return the lane in which a task waits.

    A task that waits for room blocks only tasks with the same need. So tasks of another kind or estimated size have a
    lane of their own, and so do messages to an agent.
    """
    target = f"agent:{agent}" if agent is not None else f"role:{role}"
    return f"{urgency}/{kind}/{size_of(estimate)}/{target}/{operator}"


def size_of(estimate: float | None) -> str:
    """Return the size class of an estimate: one of a few steps, each four times the one before."""
    if estimate is None:
        return "-"
    size, within = 0, _SMALLEST
    while size < _SIZES and estimate > within:
        size, within = size + 1, within * 4
    return str(size)


#: The maximum tokens of the smallest size class. Each class is four times the one before; the last is unbounded.
_SMALLEST = 1000.0
_SIZES = 9


def aside(lane: str) -> str:
    """Return the lane for tasks that would block their own lane, because only another limit lets them begin."""
    return lane if lane.endswith("/aside") else f"{lane}/aside"
