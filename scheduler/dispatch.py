"""Hands tasks to agents: at once when something happens that lets one begin, and at its time otherwise.

Each step is read off the register, decided by plain functions (`budget.dispatch`) and written in one transaction with
all that follows from it: the task's state, the message that carries it, what flows may be served after it. That
transaction takes only a task that is still queued and an agent that still has none; so whoever is killed, or decides
the same twice, gives a task to one agent once. Each attempt at a task is a message of its own (`fleet.attempts`).
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import structlog

from budget import dispatch, fairness
from budget.costs import learn
from budget.dispatch import Assign, Head, Live, Refuse, Start, Wait
from budget.expectation import expected
from fleet.attempts import message_of
from register.crashpoints import declare
from register.errors import RegisterError
from register.queries import tasks
from scheduler.pasts import pasts, price_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from budget.costs import Learned, Past
    from budget.dispatch import Agent, Limits, Policy
    from budget.pacing import Cost, Standing
    from budget.pacing import Policy as PacingPolicy
    from register.queries.tasks import Task
    from register.store import Store

log = structlog.get_logger(__name__)

DISPATCH = declare("task.dispatch")
REFUSE = declare("task.refuse")
WAITS = declare("task.waits")

#: It is looked at again so often even if nothing seems to have happened, seconds.
NET_S = 60.0
#: Between two looks there is at least so much time, so that many news in a row are one; seconds.
LEAST_S = 0.1
#: Steps of one round, so that nothing can make it go on for ever.
_MOST_STEPS = 1000
#: What was learned of costs is read anew after so long, seconds.
_LEARNED_S = 600.0
#: What kept an agent from being started is looked at anew after so long, if it does not say when itself; seconds.
_TRY_START_S = 300.0
#: and never sooner than after so long, seconds.
_LEAST_TRY_S = 5.0
#: A time at which a task may begin that moves by less than this share of the wait is the same time.
_SAME_SHARE = 0.1
_SAME_S = 60.0


#: What of a task matters to whether an agent is started for it.
_Work: TypeAlias = tuple[str, str, float | None, float | None, bool]


class Windows(Protocol):
    """Every window at one moment (bot.pacing.snapshot.Snapshot)."""

    @property
    def now(self) -> float: ...
    @property
    def policy(self) -> PacingPolicy: ...

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
    ) -> Sequence[Standing]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Able:
    """An agent that tasks may be given to, and what its work draws on."""

    agent: Agent
    model: str | None = None
    provider: str | None = None
    profiles: Sequence[str] = ()


class Hands(Protocol):
    """What is done to the fleet, and told (bot.handing.Handing)."""

    async def able(self, live: Sequence[Task]) -> Sequence[Able]:
        """The agents that there are, and those that can be started."""

    async def hand_over(self, tx: AsyncConnection, task: Task, agent: str) -> bool:
        """Put the message that carries the task on its way, and tell; False, and nothing is done, if it cannot."""

    def handed_over(self, agent: str) -> None:
        """What `hand_over` wrote is committed."""

    async def start(self, task: Task, agent: str) -> Wait | None:
        """Have an agent started for a task, with what there is room for. Why it is not; None: it starts."""

    async def refused(self, tx: AsyncConnection, task: Task, why: str) -> None:
        """Tell that a task is refused."""

    async def waits(self, tx: AsyncConnection, task: Task, wait: Wait) -> None:
        """Tell that a task, as it stood before, waits so by now, if that is worth a message."""

    def told(self) -> None:
        """What was told is committed."""


@dataclass(slots=True)
class Dispatcher:
    """One host's."""

    store: Store
    clock: Callable[[], float]
    hands: Hands
    snapshot: Callable[[], Awaitable[Windows]]
    limits: Callable[[], Limits]
    policy: Callable[[], Policy]
    unanswered_s: Callable[[], float] = lambda: float("inf")
    """For how long an agent gets no other task while one of its waits for a person's word."""
    net_s: float = NET_S
    least_s: float = LEAST_S
    look_at: float | None = None
    """When it looks again, if nothing happens before; seconds since the epoch."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _past: dict[str | None, list[Past]] = field(default_factory=dict)
    _past_at: float = 0.0
    _learned: dict[tuple[str | None, str | None, str | None, str], Learned] = field(default_factory=dict)
    _price: tuple[float | None] | None = None
    """What a weighted token costs in US dollars, whoever uses it; None: not looked up yet."""
    _not_started: dict[tuple[_Work, str], tuple[float, float, Wait]] = field(default_factory=dict)
    """From when until when it holds that this agent is not started for such work, and why. What holds of one task holds
    of all that are alike, or each would ask of each agent in turn."""
    _overdue_at: float = float("-inf")
    _changes: int = 0
    _decided: tuple[object, float, float | None] | None = None
    """What all waited on when it was found that all must wait, when that was, and when to look again."""

    def wake(self) -> None:
        """Something happened that may let a task begin: look soon."""
        self._news.set()

    def learned_more(self) -> None:
        """A task ended, so that there is more to learn from."""
        self._past.clear()
        self._learned.clear()
        self._price = None
        self._change()

    def opened(self) -> None:
        """A window is not what it was: what could not be started may be."""
        self._not_started.clear()
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
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def look_once(self) -> None:
        """Like `look` for whoever tells what became of a task; what goes wrong is left to `run`."""
        try:
            await self.look()
        except Exception as error:
            log.info("dispatch.not_now", reason=str(error))
        self.wake()

    async def look(self) -> None:
        """Do all that can be done now; what waits then knows why.

        Raises:
            RegisterError: the register cannot be used.
        """
        async with self._turn:
            await self._refuse_overdue()
            for _ in range(_MOST_STEPS):
                if not await self._step():
                    return

    async def _refuse_overdue(self) -> None:
        """Refuse what nothing let begin before its deadline, and what others stand before in its lane: no look at the
        heads finds that. All that waits is gone through for it, so now and then."""
        now = self.clock()
        if 0 <= now - self._overdue_at < self.net_s:
            return
        async with self.store.read() as tx:
            late = await tasks.overdue(tx, now)
        for task in late:
            await self._refuse(task, "its deadline is past")
        self._overdue_at = now

    # --- deciding -----------------------------------------------------------------------------------------------

    async def _step(self) -> bool:
        """Decide and do one step; False: there is none."""
        changes = self._changes
        self.look_at = None
        async with self.store.read() as tx:
            heads = {task.id: task for task in await tasks.lane_heads(tx)}
            if not heads:
                return False
            live = await tasks.live(tx)
            deficits = await tasks.deficits(tx)
            parents = await tasks.assigned(tx, {task.parent for task in heads.values() if task.parent is not None})
            await self._learn(tx, heads.values())
        able = {each.agent.name: each for each in await self.hands.able(live)}
        waited_on = _waited_on(heads.values(), live, able.values())
        if self._stands(waited_on):
            return False
        windows = await self.snapshot()
        view = self._view(heads, live, deficits, parents, able, windows)
        decision = dispatch.decide(view)
        match decision.step:
            case Assign():
                await self._assign(heads[decision.step.task], decision.step, able[decision.step.agent])
            case Start():
                await self._start(heads[decision.step.task], decision.step.agent, view.now)
            case Refuse(task=task, why=why):
                await self._refuse(heads[task], why)
            case None:
                await self._wait(heads, decision.waits, view.now)
                self.look_at = decision.look_at
                if self._changes == changes:
                    # Otherwise something opened while this was decided on what was before.
                    self._decided = (waited_on, view.now, decision.look_at)
                return False
        return True

    def _change(self) -> None:
        """What was decided is to be decided anew, also where that is under way."""
        self._changes += 1
        self._decided = None

    def _stands(self, waited_on: object) -> bool:
        """Whether nothing that matters changed since all had to wait; then the windows need not be asked."""
        if self._decided is None or self._decided[0] != waited_on:
            return False
        _, at, look_at = self._decided
        now = self.clock()
        self.look_at = look_at
        return 0 <= now - at < self.net_s and (look_at is None or now < look_at)

    def _view(
        self,
        heads: Mapping[str, Task],
        live: Sequence[Task],
        deficits: Mapping[str, float],
        parents: Mapping[str, str],
        able: Mapping[str, Able],
        windows: Windows,
    ) -> dispatch.View:
        draws: dict[str, Sequence[Standing]] = {}
        costs: dict[tuple[str, str | None], Cost] = {}

        def draw(agent: Agent) -> Sequence[Standing]:
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

        def cost(head: Head, agent: Agent | None) -> Cost:
            key = (head.id, None if agent is None else agent.name)
            if key not in costs:
                costs[key] = self._cost(heads[head.id], None if agent is None else able[agent.name], view.now)
            return costs[key]

        def not_started(head: Head, agent: Agent) -> Wait | None:
            since, until, wait = self._not_started.get((_work(heads[head.id]), agent.name), (0.0, 0.0, None))
            return wait if since <= windows.now < until else None

        view = dispatch.View(
            now=windows.now,
            heads=[_head(task, parents) for task in heads.values()],
            agents=[each.agent for each in able.values()],
            live=[
                Live(role=task.role, runtime=task.runtime, account=task.account)
                for task in live
                if task.state != "waiting" and task.kind != dispatch.TURN
            ],
            limits=self.limits(),
            deficits=deficits,
            policy=self.policy(),
            pacing=windows.policy,
            not_started=not_started,
            draw=draw,
            cost=cost,
        )
        return view

    # --- what tasks cost ----------------------------------------------------------------------------------------

    async def _learn(self, tx: AsyncConnection, heads: Iterable[Task]) -> None:
        now = self.clock()
        if not 0 <= now - self._past_at < _LEARNED_S:
            self.learned_more()
            self._past_at = now
        # Of all roles, too: what a token costs is known of the fleet before it is of a role.
        for role in {None, *(task.role for task in heads)}.difference(self._past):
            self._past[role] = await pasts(tx, role)

    def _cost(self, task: Task, able: Able | None, now: float) -> Cost:
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
            by_agent=task.operator.startswith(dispatch.AGENT),
            usd_per_token=self._price[0],
        )

    async def cost_of(self, *, role: str | None, runtime: str | None, model: str | None, kind: str) -> Cost:
        """What such work is projected to cost.

        Raises:
            RegisterError: the register cannot be read.
        """
        async with self.store.read() as tx:
            past, every = await pasts(tx, role), await pasts(tx, None)
        now = self.clock()
        learned = learn(past, role=role, runtime=runtime, model=model, kind=kind, now=now)
        return expected(learned, usd_per_token=price_of(every, now))

    # --- acting -------------------------------------------------------------------------------------------------

    async def _assign(self, task: Task, step: Assign, able: Able) -> None:
        agent = able.agent
        now = self.clock()
        attempt = task.attempt + 1
        given: dict[str, Any] = {
            "state": "dispatched",
            "attempt": attempt,
            "assigned": agent.name,
            "runtime": agent.runtime,
            "model": able.model,
            "account": agent.account,
            "role": task.role or agent.role,
            "message": message_of(task.id, attempt),
            "projected_tokens": step.cost.tokens,
            "projected_usd": step.cost.usd,
            "dispatched_at": now,
            "why": None,
            "reason": step.why,
            "look_at": None,
        }
        handed = replace(task, **given)
        decision = {"agent": agent.name, "tokens": step.cost.tokens, "usd": step.cost.usd, "why": step.why}
        async with self.store.write(DISPATCH) as tx:
            own = await tasks.of_agent(tx, agent.name)
            if task.kind != dispatch.TURN and any(keeps_agent(each, now, self.unanswered_s()) for each in own):
                return  # it was given another since it was looked at
            if not await tasks.change(
                tx, task.id, only=["queued"], attempt_is=task.attempt, now=now, decision=decision, **given
            ):
                return
            if not await self.hands.hand_over(tx, handed, agent.name):
                raise RegisterError(f"{agent.name} is gone since it was looked at; nothing was given to it.")
            before = await tasks.deficits(tx)
            changed = {flow: left for flow, left in step.deficits.items() if left != before.get(flow, 0.0)}
            gone = dict.fromkeys(before.keys() - step.deficits.keys(), 0.0)
            await tasks.keep_deficits(tx, {**changed, **gone}, now=now)
        log.info("task.dispatched", task=task.id, agent=agent.name, attempt=attempt)
        self.hands.handed_over(agent.name)

    async def _start(self, task: Task, agent: str, now: float) -> None:
        held = await self.hands.start(task, agent)
        if held is None:
            log.info("task.starts_agent", task=task.id, agent=agent)
            held = Wait(task=task.id, why="starting", text=f"{agent} is being started for it.")
        self._not_started = {key: kept for key, kept in self._not_started.items() if kept[0] <= now < kept[1]}
        until = held.look_at if held.look_at is not None else now + _TRY_START_S
        if until < now + _LEAST_TRY_S:
            # What is past by now would have it tried again and again.
            until = now + _LEAST_TRY_S
            held = replace(held, look_at=None if held.look_at is None else until)
        self._not_started[_work(task), agent] = (now, until, held)

    async def _refuse(self, task: Task, why: str) -> None:
        now = self.clock()
        ended: dict[str, Any] = {
            "state": "failed",
            "summary": why,
            "why": None,
            "reason": None,
            "look_at": None,
            "ended_at": now,
        }
        async with self.store.write(REFUSE) as tx:
            if await tasks.change(tx, task.id, only=["queued"], attempt_is=task.attempt, now=now, **ended):
                await self.hands.refused(tx, task, why)
        log.info("task.refused", task=task.id, reason=why)
        self.hands.told()

    async def _wait(self, heads: Mapping[str, Task], waits: Sequence[Wait], now: float) -> None:
        """Write down why tasks wait, of those of which something else stands there."""
        news = [(heads[wait.task], wait) for wait in waits if is_news(heads[wait.task], wait, now)]
        if not news:
            return
        async with self.store.write(WAITS) as tx:
            for task, wait in news:
                values: dict[str, Any] = {"why": wait.why, "reason": wait.text, "look_at": wait.look_at}
                if wait.never:
                    values["lane"] = dispatch.aside(task.lane)
                if wait.cost is not None:
                    values |= {"projected_tokens": wait.cost.tokens, "projected_usd": wait.cost.usd}
                if await tasks.change(tx, task.id, only=["queued"], now=now, step=task.why != wait.why, **values):
                    await self.hands.waits(tx, task, wait)
        self.hands.told()


def _work(task: Task) -> _Work:
    return (task.kind, task.urgency, task.estimate, task.deadline, task.operator.startswith(dispatch.AGENT))


def _waited_on(heads: Iterable[Task], live: Iterable[Task], able: Iterable[Able]) -> object:
    """What a decision rests on besides windows, settings and the time."""
    return (
        [(task.id, task.attempt) for task in heads],
        [(task.id, task.state) for task in live],
        [(each.agent.name, each.agent.role, each.agent.readiness, each.agent.account) for each in able],
    )


def is_news(task: Task, wait: Wait, now: float) -> bool:
    """Whether something else stands in the register of why and until when a task waits."""
    if task.why != wait.why or (task.look_at is None) != (wait.look_at is None):
        return True
    if wait.never and task.lane != dispatch.aside(task.lane):
        return True
    if task.look_at is None or wait.look_at is None:
        return task.reason != wait.text
    return abs(task.look_at - wait.look_at) > max(_SAME_S, _SAME_SHARE * abs(wait.look_at - now))


def keeps_agent(task: Task, now: float, unanswered_s: float) -> bool:
    """Whether the agent that has a task gets no other: not for words, and not for ever where a person is asked."""
    if task.kind == dispatch.TURN:
        return False
    return task.state != "waiting" or now - task.updated_at < unanswered_s


def charged_flows(task: Task) -> tuple[str, str]:
    """Operator and role that a task was charged to."""
    return _head(task, {}).flow


async def correct(tx: AsyncConnection, task: Task, actual: float, *, now: float) -> None:
    """Charge the flows of a task what it cost instead of what was projected."""
    if task.projected_tokens is None:
        return
    operator, role = charged_flows(task)
    deficits = await tasks.deficits(tx)
    after = fairness.corrected(deficits, operator=operator, role=role, charged=task.projected_tokens, actual=actual)
    await tasks.keep_deficits(tx, after, now=now)


def _head(task: Task, parents: Mapping[str, str]) -> Head:
    return Head(
        id=task.id,
        seq=task.seq,
        kind=task.kind,
        operator=task.operator,
        role=task.role,
        agent=task.agent,
        urgency=task.urgency,  # type: ignore[arg-type]
        created_at=task.created_at,
        deadline=task.deadline,
        not_before=task.look_at if task.why == "retry" else None,
        prefers=parents.get(task.parent or ""),
    )
