"""What dispatch decides on and what comes of it: tasks and agents as they are looked at, and steps. Times are seconds
since the epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from budget.dispatch.fair_queueing import queue_of
from budget.windows import pace_admission as pacing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from budget.dispatch.fair_queueing import Charge
    from budget.windows.pace_admission import Cost, Leave, Unit, Urgency, WindowState

URGENCIES: tuple[Urgency, ...] = ("low", "normal", "high", "critical")

#: pace, limit, unknown, price: as `budget.windows.pace_admission.Waits` has it. fairness: it is not its turn yet.
#: concurrency: as many
#: as may be are under way. busy: all who could do it have something to do. starting: someone who can is being started.
#: no one: no one can do it. retry: it failed, and is tried again at its time.
Why: TypeAlias = Literal[
    "pace", "limit", "unknown", "price", "fairness", "concurrency", "busy", "starting", "nobody", "retry"
]
#: idle: it can be given something. busy: it has a turn or a task, or mail. starting: it will be idle. down: it is not
#: running, and Muster does not start it now. startable: it is not running, and can be started. away: it is frozen, or
#: its way out is closed.
Readiness: TypeAlias = Literal["idle", "busy", "starting", "down", "startable", "away"]

#: The kind of task that an operator's words to an agent are.
TURN = "turn"
#: The longest pause before a task that failed is tried again, seconds (bot.tasks.state_machine). Where it would be
#: longer, the
#: clock went back.
LONGEST_RETRY_S = 3600.0
#: What the identity of an agent that asks for a task begins with.
AGENT = "agent:"


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneHead:
    """The first task of a lane."""

    id: str
    seq: int
    """Its place among all tasks: the smaller was asked for earlier."""
    kind: str
    operator: str
    role: str | None
    agent: str | None
    """The one agent that is to have it; None: any of the role."""
    urgency: Urgency
    created_at: float
    deadline: float | None = None
    not_before: float | None = None
    """It failed, and is not tried again before."""
    charged_to: str | None = None
    """The operator whose queue it is in; None: the one who asked."""
    saves_from: float | None = None
    """When it began to save (budget.windows.large_task_accrual); None: it does not."""
    prefers: str | None = None
    """The agent that has the best reason to have it, as one that did its parent; no other waits for it."""

    @property
    def is_of_person(self) -> bool:
        """Whether a person asks for it: no agent, and no part of Muster."""
        return not self.operator.startswith((AGENT, "muster:"))

    @property
    def queue(self) -> str:
        """The queue that it is charged to."""
        return queue_of(self.urgency, self.charged_to or self.operator)


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatchAgent:
    """An agent that tasks may be given to."""

    name: str
    role: str
    runtime: str
    readiness: Readiness
    account: str | None = None
    free_since: float = 0.0
    """Of two that are idle, the one that has been for longer is given the task."""
    holds: str | None = None
    """The id of the task for which it waits for an operator's answer."""
    stopped_at: float | None = None
    """When somebody stopped it. What was asked for before does not start it: that word is the newer one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveTask:
    """A task that is under way; not one that waits for a person."""

    role: str | None
    runtime: str | None
    account: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatchLimits:
    """How many tasks may be under way at once; what is not named is not limited."""

    host: int | None = None
    roles: Mapping[str, int] = field(default_factory=dict)
    runtimes: Mapping[str, int] = field(default_factory=dict)
    accounts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatchPolicy:
    """How tasks are dispatched."""

    start_agents: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueView:
    """All that a decision rests on."""

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
    """What was found when that agent was to be started for such a task: as what it would be started, and whether there
    is room for that, is found out then (`StartTask`)."""
    draw: Callable[[DispatchAgent], Sequence[WindowState]]
    """The windows that work of this agent draws on; the same each time within a decision."""
    cost: Callable[[LaneHead, DispatchAgent | None], Cost]
    """What the task is projected to cost, by this agent or by whoever does it; the same each time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assign:
    """Give the task to this agent now."""

    task: str
    agent: str
    cost: Cost
    why: str
    charge: Charge | None = None
    """What its queue is charged; None for words to an agent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartTask:
    """Start this agent for the task."""

    task: str
    agent: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RefuseTask:
    """Nothing will let the task begin before its deadline."""

    task: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskWait:
    """The task waits."""

    task: str
    why: Why
    text: str
    """For people: a sentence, without time and command."""
    look_at: float | None = None
    """When it may be able to begin, if nothing happens before; None: when something happens."""
    windows: tuple[str, ...] = ()
    """The keys of the windows that hold it."""
    turn: bool = False
    """It is held by the line alone, so others that draw on these windows wait for it."""
    scope: str | None = None
    """Whose window that is."""
    authorize: float | None = None
    """What would have to be authorized for it to begin now, in `unit`."""
    unit: Unit | None = None
    leave: Sequence[Leave] = ()
    """All that would have to be authorized for it to begin now, where that would help."""
    critical: bool = False
    """It is beyond a limit that only work of critical urgency may pass."""
    cost: Cost | None = None
    never: bool = False
    """It is more than a window holds in all: nothing but another limit helps."""
    large: bool = False
    """It needs more than a line grants in a day (budget.windows.large_task_accrual)."""
    too_large: bool = False
    """It is so large that nothing is saved for it."""
    saves_from: float | None = None
    """When it began to save, where it does."""
    reset_unknown: bool = False
    """No time can be told since nobody knows when the window begins anew."""

    @classmethod
    def of(cls, found: pacing.Waits, *, task: str = "") -> TaskWait:
        """That it waits for windows. Without a task: of work that is none yet."""
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
    """The next step, if there is one, and what is known of the heads that wait."""

    step: Assign | StartTask | RefuseTask | None
    waits: Sequence[TaskWait]
    """With a step: not of all heads. Without one: of every head."""

    @property
    def look_at(self) -> float | None:
        """When to decide again, if nothing happens before."""
        return min((wait.look_at for wait in self.waits if wait.look_at is not None), default=None)
