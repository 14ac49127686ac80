"""The dispatch loop: assigns tasks to agents at once after an event that lets one begin, or else at its time.

    scheduler.dispatch.dispatch_inputs   reads the inputs: the register, the agents, the windows
    scheduler.dispatch.task_cost_cache   projects the cost of work
    budget.dispatch.next_task            decides the next step, and why the other tasks wait (pure)
    scheduler.dispatch.task_transitions  carries out the step
    scheduler.dispatch.start_failures    remembers what prevented agents from starting

This module decides when to run these steps, and skips them if no relevant input changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from budget.dispatch import next_task
from budget.dispatch.next_task import Assign, DispatchLimits, DispatchPolicy, RefuseTask, StartTask
from budget.windows.pace_admission import Cost
from core.async_waits import set_within
from core.errors import RegisterError
from database.engine.store import Store
from database.queries import tasks
from scheduler.dispatch.dispatch_inputs import TaskQueue, WindowSnapshot
from scheduler.dispatch.task_cost_cache import TaskCosts, projected
from scheduler.dispatch.task_transitions import TaskAssigner, TaskTransitions

log = structlog.get_logger(__name__)

#: The maximum time between two looks, even without an event; seconds.
NET_S = 60.0
#: The minimum time between two looks, so that many events in a row cause one look; seconds.
LEAST_S = 0.1
#: The maximum number of steps in one round, so that every round ends.
_MOST_STEPS = 1000


@dataclass(slots=True)
class Dispatcher:
    """The dispatcher of one host."""

    store: Store
    clock: Callable[[], float]
    assigner: TaskAssigner
    snapshot: Callable[[], Awaitable[WindowSnapshot]]
    limits: Callable[[], DispatchLimits]
    policy: Callable[[], DispatchPolicy]
    unanswered_s: Callable[[], float] = lambda: float("inf")
    """Seconds for which an agent gets no other task while one of its tasks waits for a person's answer."""
    net_s: float = NET_S
    least_s: float = LEAST_S
    look_at: float | None = None
    """The time of the next look if no event causes an earlier one; seconds since the epoch."""
    steps: TaskTransitions = field(init=False)
    _costs: TaskCosts = field(default_factory=TaskCosts)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _overdue_at: float = float("-inf")
    _changes: int = 0
    _decided: tuple[object, float, float | None] | None = None
    """The inputs of the last decision that all tasks must wait, its time, and the time of the next look."""

    def __post_init__(self) -> None:
        self.steps = TaskTransitions(
            store=self.store, clock=self.clock, assigner=self.assigner, unanswered_s=self.unanswered_s
        )

    def wake(self) -> None:
        """Look soon, because an event may let a task begin."""
        self._news.set()

    def learned_more(self) -> None:
        """Learn the costs again, because a task ended."""
        self._costs.forget()
        self._change()

    def opened(self) -> None:
        """Retry failed starts, because a window changed."""
        self.steps.not_started.forget()
        self._change()
        self.wake()

    async def run(self) -> None:
        """Dispatch until cancelled."""
        while True:
            self._news.clear()
            try:
                await self.look()
            except RegisterError as error:
                log.info("dispatch.stands_aside", reason=str(error))
                await self.store.rest(1.0)
            except Exception:
                log.exception("dispatch.failed")
                await asyncio.sleep(1.0)
            await asyncio.sleep(self.least_s)
            pause = self.net_s
            if self.look_at is not None:
                pause = min(pause, max(0.05, self.look_at - self.clock()))
            await set_within(self._news, pause)

    async def look_once(self) -> None:
        """Look for a caller that reports a task's result. Errors are only logged, and `run` looks again."""
        try:
            await self.look()
        except Exception as error:
            log.info("dispatch.not_now", reason=str(error))
        self.wake()

    async def look(self) -> None:
        """Carry out all steps that are possible now, and store why the other tasks wait.

        Raises:
            RegisterError: the register cannot be used.
        """
        async with self._turn:
            await self._refuse_overdue()
            for _ in range(_MOST_STEPS):
                if not await self._step():
                    return

    async def _refuse_overdue(self) -> None:
        """Refuse tasks whose deadline passed, including those behind others in their lane.

        The decision sees only lane heads. This query reads all queued tasks, so it runs only every `net_s` seconds.
        """
        now = self.clock()
        if 0 <= now - self._overdue_at < self.net_s:
            return
        async with self.store.read() as tx:
            late = await tasks.overdue(tx, now)
        for task in late:
            await self.steps.refuse(task, "its deadline is past")
        self._overdue_at = now

    async def _step(self) -> bool:
        """Decide and carry out one step. Return False if there is none."""
        changes = self._changes
        self.look_at = None
        async with self.store.read() as tx:
            queue = await TaskQueue.read(tx)
            if queue is None:
                return False
            if await self._costs.learn(tx, queue.heads.values(), self.clock()):
                self._change()
        heads = queue.heads
        able = {each.agent.name: each for each in await self.assigner.able(queue.live)}
        waited_on = queue.waited_on(able.values())
        if self._stands(waited_on):
            return False
        windows = await self.snapshot()
        view = queue.view(
            able,
            windows,
            limits=self.limits(),
            policy=self.policy(),
            cost_of=lambda task, agent: self._costs.of(task, agent, windows.now),
            not_started=self.steps.not_started.why,
        )
        decision = next_task.decide(view)
        match decision.step:
            case Assign(task=task, agent=agent):
                await self.steps.assign(heads[task], decision.step, able[agent])
            case StartTask(task=task, agent=agent):
                await self.steps.start(heads[task], agent, view.now)
            case RefuseTask(task=task, why=why):
                await self.steps.refuse(heads[task], why)
            case None:
                await self.steps.wait(heads, decision.waits, view.now)
                self.look_at = decision.look_at
                if self._changes == changes:
                    # Otherwise something changed during the decision, which used the old state.
                    self._decided = (waited_on, view.now, decision.look_at)
                return False
        return True

    def _change(self) -> None:
        """Invalidate the last decision, and one that is in progress."""
        self._changes += 1
        self._decided = None

    def _stands(self, waited_on: object) -> bool:
        """Return whether the last decision to wait still applies, so that the windows need not be read."""
        if self._decided is None or self._decided[0] != waited_on:
            return False
        _, at, look_at = self._decided
        now = self.clock()
        self.look_at = look_at
        return 0 <= now - at < self.net_s and (look_at is None or now < look_at)

    async def cost_of(self, *, role: str | None, runtime: str | None, model: str | None, kind: str) -> Cost:
        """Return the projected cost of such work.

        Raises:
            RegisterError: the register cannot be read.
        """
        async with self.store.read() as tx:
            return await projected(tx, role=role, runtime=runtime, model=model, kind=kind, now=self.clock())
