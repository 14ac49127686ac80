"""The decision which agent gets which task now, and why the other tasks wait. Pure; times are seconds since the epoch.

The line of each window decides when a task begins, and virtual time decides which one:

1. messages to an agent begin when the pace allows them;
2. critical tasks begin at once within the limits;
3. a large task begins once its savings and the line cover it (`budget.windows.large_task_accrual`);
4. among all other tasks, the queue whose turn it is comes next (`budget.dispatch.fair_queueing`), and its task begins
   when the line covers it.

Tasks of one operator, target, urgency, kind and size form a lane and keep their order. So a decision sees only the head
of each lane. If it is a head's turn and it only waits for a line, other tasks that draw on that window wait for it. No
task waits for a head that no agent can take, that another limit holds, or that is large.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from budget.dispatch import fair_queueing
from budget.dispatch.eligible_agents import places, present, soonest, takers
from budget.dispatch.fair_queueing import CRITICAL, Charge
from budget.dispatch.model import (
    AGENT,
    LONGEST_RETRY_S,
    TURN,
    URGENCIES,
    Assign,
    DispatchAgent,
    DispatchDecision,
    DispatchLimits,
    DispatchPolicy,
    LaneHead,
    LiveTask,
    QueueView,
    Readiness,
    RefuseTask,
    StartTask,
    TaskWait,
    Why,
    aside,
    lane_of,
    size_of,
)
from budget.windows import interactive_turns, large_task_accrual, pace_admission
from budget.windows.large_task_accrual import Saving
from budget.windows.pace_admission import Cost, WindowState

__all__ = [
    "AGENT",
    "LONGEST_RETRY_S",
    "TURN",
    "URGENCIES",
    "Assign",
    "DispatchAgent",
    "DispatchDecision",
    "DispatchLimits",
    "DispatchPolicy",
    "LaneHead",
    "LiveTask",
    "QueueView",
    "Readiness",
    "RefuseTask",
    "StartTask",
    "TaskWait",
    "Why",
    "aside",
    "decide",
    "lane_of",
    "size_of",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class _First:
    """A head that waits for a line on its turn."""

    head: LaneHead
    wait: TaskWait
    windows: frozenset[str]
    finish: float


@dataclass(slots=True)
class _Round:
    """One decision."""

    view: QueueView
    use: Counter[str]
    ready: dict[str, list[DispatchAgent]] = field(default_factory=dict)
    """The agents that can take each head, by task ID."""
    savings: dict[str, Saving] = field(default_factory=dict)
    """The savings by window."""
    waits: dict[str, TaskWait] = field(default_factory=dict)
    first: list[_First] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)
    """The total need of the heads that come first, by window."""
    known: pace_admission.Known = field(default_factory=dict)
    _seen: dict[tuple[str, str | None], Sequence[WindowState]] = field(default_factory=dict)
    _shared: dict[tuple[str, bool], WindowState] = field(default_factory=dict)
    _keys: dict[str, frozenset[str]] = field(default_factory=dict)

    # --- the view of a head -------------------------------------------------------------------------------------

    def draw(self, head: LaneHead, agent: DispatchAgent) -> Sequence[WindowState]:
        """Return the windows that the work draws on, with the savings for it or for another task."""
        bare = self.view.draw(agent)
        if not self.savings:
            return bare
        own = head.id if any(each.task == head.id for each in self.savings.values()) else None
        if (agent.name, own) not in self._seen:
            self._seen[agent.name, own] = [self._with_savings(each, own) for each in bare]
        return self._seen[agent.name, own]

    def _with_savings(self, standing: WindowState, task: str | None) -> WindowState:
        found = self.savings.get(standing.window.key)
        if found is None:
            return standing
        key = found.window, found.task == task
        if key not in self._shared:
            see = large_task_accrual.for_saver if found.task == task else large_task_accrual.for_others
            self._shared[key] = see(standing, found, self.view.now, self.view.pacing)
        return self._shared[key]

    def keys(self, agent: DispatchAgent) -> frozenset[str]:
        if agent.name not in self._keys:
            self._keys[agent.name] = frozenset(each.window.key for each in self.view.draw(agent))
        return self._keys[agent.name]

    def paced(self, head: LaneHead, agent: DispatchAgent) -> Cost | TaskWait:
        """Return the projected cost if the windows have room for it, or else the wait."""
        cost, now = self.view.cost(head, agent), self.view.now
        own = [each for each in self.savings.values() if each.task == head.id]
        # A task with complete savings reads the line ahead, because other tasks may be ahead of the line too.
        urgency = "high" if own and all(now >= each.until for each in own) else head.urgency
        found = pace_admission.decide(self.draw(head, agent), cost, urgency, now, self.view.pacing, known=self.known)
        return (
            cost if isinstance(found, pace_admission.Admitted) else replace(TaskWait.of(found, task=head.id), cost=cost)
        )

    def is_large(self, head: LaneHead, agent: DispatchAgent) -> bool:
        """Return whether the task needs more than a line grants it in a day."""
        cost = self.view.cost(head, agent)
        return any(_is_large(each, cost) for each in self.draw(head, agent))

    # --- saving -------------------------------------------------------------------------------------------------

    def save(self, heads: Sequence[LaneHead]) -> None:
        """Find the oldest large task that can save, for each window."""
        view = self.view
        small: set[tuple[int, Cost]] = set()
        for head in heads:
            if head.kind == TURN or head.urgency == CRITICAL or (agent := present(head, view)) is None:
                continue
            cost, bare = view.cost(head, agent), view.draw(agent)
            if (id(bare), cost) in small:
                continue
            large = [each for each in bare if _is_large(each, cost)]
            if not large:
                small.add((id(bare), cost))
            elif all(each in large or self._opens(each, cost, head) for each in bare):
                for each in large:
                    self._save(head, each, cost)

    def _save(self, head: LaneHead, standing: WindowState, cost: Cost) -> None:
        wanted = pace_admission.need(standing.window, cost)
        if wanted is None or standing.window.key in self.savings:
            return
        now = self.view.now
        found = large_task_accrual.plan(
            standing, head.id, wanted, spare=pace_admission.spare(standing, cost, wanted, now), since=head.saves_from,
            asked_at=head.created_at, now=now, policy=self.view.pacing,
        )  # fmt: skip
        if found is not None:
            self.savings[found.window] = found

    def _opens(self, standing: WindowState, cost: Cost, head: LaneHead) -> bool:
        """Return whether the window holds the task by its pace at most, and not by its limit."""
        found = pace_admission.decide([standing], cost, head.urgency, self.view.now, self.view.pacing, known=self.known)
        return not isinstance(found, pace_admission.Waits) or found.why == "pace"

    # --- trying -------------------------------------------------------------------------------------------------

    def attempt(self, head: LaneHead, finish: float, ahead: float) -> Assign | StartTask | TaskWait:
        """Return the step that gives a head to an agent, or why the head waits."""
        waits: list[TaskWait] = []
        # The cost and the window that held the last agent. The window also holds the next agent that draws on it.
        holds: tuple[Cost, str] | None = None
        for agent in self.ready[head.id]:
            keys = self.keys(agent)
            other = next((each for each in self.first if each.windows <= keys and not _passes(head, ahead, each)), None)
            if other is not None:
                if not any(wait.why == "fairness" for wait in waits):
                    waits.append(self._behind(head, agent, other))
                continue
            if agent.readiness == "startable":
                why = f"no running agent is free for it, and {agent.name} can do it"
                return StartTask(task=head.id, agent=agent.name, why=why)
            if holds is not None and holds[1] in keys and self.view.cost(head, agent) == holds[0]:
                continue
            found = self.paced(head, agent)
            if not isinstance(found, TaskWait):
                return Assign(task=head.id, agent=agent.name, cost=found, why=f"{agent.name} is free")
            waits.append(found)
            if found.cost is not None:
                holds = found.cost, found.windows[0]
        wait = self._saving(head, soonest(waits))
        if wait.turn:
            self.first.append(_First(head=head, wait=wait, windows=frozenset(wait.windows), finish=finish))
        if wait.turn or wait.why == "fairness":
            agent = self.ready[head.id][0]
            for standing in self.draw(head, agent):
                key, wanted = standing.window.key, pace_admission.need(standing.window, self.view.cost(head, agent))
                self.before[key] = self.before.get(key, 0.0) + (wanted or 0.0)
        return wait

    def _saving(self, head: LaneHead, wait: TaskWait) -> TaskWait:
        """Add the progress of its savings to the wait of a task."""
        own = [each for each in self.savings.values() if each.task == head.id]
        if not own:
            return wait
        last, now = max(own, key=lambda each: each.until), self.view.now
        part = last.saved(now) / last.wanted
        at = last.until if wait.look_at is None or now < last.until < wait.look_at else wait.look_at
        since = min(each.since for each in own) if head.saves_from is None else head.saves_from
        return replace(wait, text=f"{wait.text} It saves for that, and has {part:.0%}.", look_at=at, saves_from=since)

    def _behind(self, head: LaneHead, agent: DispatchAgent, other: _First) -> TaskWait:
        """Return the wait of a head behind another head."""
        view, cost = self.view, self.view.cost(head, agent)
        at, leave = view.now, []
        for standing in self.draw(head, agent):
            window = standing.window
            if window.key not in other.windows or (wanted := pace_admission.need(window, cost)) is None:
                continue
            more = self.before.get(window.key, 0.0) + wanted
            at = max(at, _reached(standing, window.least_use + standing.held + more, view.now))
            free = (
                pace_admission.ceiling(standing, head.urgency, view.now, view.pacing) - window.least_use - standing.held
            )
            leave.append(pace_admission.Leave(scope=window.scope, unit=window.unit, amount=max(0.0, more - free)))
        text = f"It is not its turn yet: task {other.head.id} comes first on {', '.join(sorted(other.windows))}."
        windows = tuple(sorted(other.windows))
        look_at = None if at <= view.now else at
        return TaskWait(
            task=head.id, why="fairness", text=text, look_at=look_at, windows=windows, leave=tuple(leave), cost=cost
        )


def decide(view: QueueView) -> DispatchDecision:
    """Return the next step. Carry it out and call this again with the new state, until there is no step."""
    use = Counter[str]()
    for each in view.live:
        use.update(places(each.role, each.runtime, each.account))
    heads = sorted(view.heads, key=lambda head: head.seq)
    this = _Round(view, use)
    for head in heads:
        if head.deadline is not None and view.now >= head.deadline:
            return DispatchDecision(step=RefuseTask(task=head.id, why="its deadline is past"), waits=())
        found = _words(head, this) if head.kind == TURN else takers(head, view, use)
        if isinstance(found, Assign):
            return DispatchDecision(step=found, waits=())
        if isinstance(found, TaskWait):
            this.waits[head.id] = found
        else:
            this.ready[head.id] = found
    this.save(heads)
    others = [head for head in heads if head.urgency != CRITICAL]
    step: Assign | StartTask | RefuseTask | None = (
        _next(this, [head for head in heads if head.urgency == CRITICAL]) or _saved(this, others) or _next(this, others)
    )
    if step is None:
        step = next((late for head in heads if (late := _late(this, head)) is not None), None)
    return DispatchDecision(step=step, waits=list(this.waits.values()))


def _words(head: LaneHead, this: _Round) -> Assign | TaskWait:
    """Decide on a message to an agent. Only the pace holds it here; otherwise it waits in the agent's own queue."""
    agent = next((agent for agent in this.view.agents if agent.name == head.agent), None)
    if agent is None:
        return TaskWait(task=head.id, why="nobody", text=f"There is no agent {head.agent} any more.")
    found = _spoken(head, agent, this.view) if head.is_of_person else this.paced(head, agent)
    if isinstance(found, TaskWait):
        return found
    return Assign(task=head.id, agent=agent.name, cost=found, why="the pace allows it")


def _spoken(head: LaneHead, agent: DispatchAgent, view: QueueView) -> Cost | TaskWait:
    """Return the projected cost of a person's message if it can begin now (`budget.windows.interactive_turns`)."""
    cost = view.cost(head, agent)
    found = interactive_turns.decide(view.draw(agent), cost, view.now, view.pacing)
    if isinstance(found, interactive_turns.Begins):
        return cost
    return replace(TaskWait.of(found, task=head.id), cost=cost)


def _saved(this: _Round, heads: Sequence[LaneHead]) -> Assign | StartTask | None:
    """Return the step for a large task that its savings and the line cover, or None."""
    for head, _ in _savers(this):
        if head.id in this.ready:
            found = this.attempt(head, 0.0, 0.0)
            if not isinstance(found, TaskWait):
                return _charged(found, head, this, _queues(this, heads))
            this.waits[head.id] = found
    return None


def _next(this: _Round, heads: Sequence[LaneHead]) -> Assign | StartTask | None:
    """Return the step for the head whose turn it is, or None. Record the waits of all heads before it."""
    queues = _queues(this, heads)
    weights = fair_queueing.weights(queues)
    ahead = {queue: this.view.ahead.get(queue, 0.0) for queue in queues}
    for head, part in _savers(this):
        if head.queue in ahead:
            # The queue of a task is charged for its savings.
            ahead[head.queue] += part * this.view.cost(head, None).tokens / weights[head.queue]

    def entry(queue: str, place: int) -> tuple[float, int, str, int]:
        head = queues[queue][place]
        cost = this.view.cost(head, this.ready[head.id][0]).tokens
        return fair_queueing.finish(ahead[queue], cost, weights[queue]), head.seq, queue, place

    order = [entry(queue, 0) for queue in queues]
    heapq.heapify(order)
    while order:
        finish, _, queue, place = heapq.heappop(order)
        head = queues[queue][place]
        if head.id not in this.waits:
            found = this.attempt(head, finish, ahead[queue])
            if not isinstance(found, TaskWait):
                return _charged(found, head, this, queues)
            this.waits[head.id] = found
        if place + 1 < len(queues[queue]):
            heapq.heappush(order, entry(queue, place + 1))
    return None


def _queues(this: _Round, heads: Sequence[LaneHead]) -> dict[str, list[LaneHead]]:
    """Return the heads that an agent can take, by queue."""
    found: dict[str, list[LaneHead]] = {}
    for head in heads:
        if head.id in this.ready:
            found.setdefault(head.queue, []).append(head)
    return found


def _savers(this: _Round) -> list[tuple[LaneHead, float]]:
    """Return the heads that save, each with the saved part of its need."""
    parts = {each.task: each.saved(this.view.now) / each.wanted for each in this.savings.values()}
    return [(head, parts[head.id]) for head in this.view.heads if head.id in parts] if parts else []


def _charged(
    step: Assign | StartTask, head: LaneHead, this: _Round, queues: Mapping[str, Sequence[LaneHead]]
) -> Assign | StartTask:
    """Return the step with the charge of its queue."""
    if isinstance(step, StartTask):
        return step
    waiting = {each.queue for each in this.view.heads if each.kind != TURN}
    own = this.view.ahead.get(head.queue, 0.0)
    busy = {head.queue}
    for queue, heads in queues.items():
        # A queue that is at least as far ahead does not change the lowest number.
        if queue == head.queue or this.view.ahead.get(queue, 0.0) >= own or any(_is_due(each, this) for each in heads):
            busy.add(queue)
    charge = Charge(
        queue=head.queue,
        cost=step.cost.tokens,
        weight=fair_queueing.weights(queues)[head.queue],
        busy=frozenset(busy),
        held=frozenset(waiting - busy),
    )
    others = len(queues) - 1
    turn = f"it is the turn of {head.queue.partition(' ')[2]}" if others else "nothing else could begin"
    return replace(step, charge=charge, why=f"{step.why}; {turn}")


def _is_due(head: LaneHead, this: _Round) -> bool:
    """Return whether a head could begin on its turn: no limit of its own holds it, and it is not large."""
    wait = this.waits.get(head.id)
    if wait is not None:
        return wait.turn or wait.why == "fairness"
    return not this.is_large(head, this.ready[head.id][0])


def _passes(head: LaneHead, ahead: float, other: _First) -> bool:
    """Return whether a head may begin before the other one: it reads the line further ahead, and its queue got less."""
    return head.urgency == "high" and other.head.urgency != "high" and ahead <= other.finish


def _is_large(standing: WindowState, cost: Cost) -> bool:
    wanted = pace_admission.need(standing.window, cost)
    return wanted is not None and standing.window.reckoned is not None and large_task_accrual.is_large(standing, wanted)


def _reached(standing: WindowState, amount: float, now: float) -> float:
    """Return about when a line reaches an amount; an amount beyond the limit needs later windows."""
    line, limit = standing.line, standing.window.known_limit
    if line.resets_at is None or limit <= 0:
        return now
    over = amount - limit
    if over > 0:
        return max(now, line.resets_at + over / limit * (standing.window.length or 0.0))
    start = pace_admission.line_at(line, now)
    rise = max(0.0, line.limit - start)
    part = (amount - start) / rise if rise > 0 else 1.0
    return now + min(1.0, max(0.0, part)) * max(0.0, line.resets_at - now)


# --- deadlines -----------------------------------------------------------------------------------------------------


def _late(this: _Round, head: LaneHead) -> RefuseTask | None:
    """Refuse a task that cannot begin before its deadline, or schedule another look for the deadline."""
    wait = this.waits[head.id]
    if head.deadline is None:
        return None
    if wait.never:
        return RefuseTask(task=head.id, why=wait.text)
    if wait.look_at is not None and wait.look_at > head.deadline and not _may_begin(this, head):
        return RefuseTask(task=head.id, why=f"nothing lets it begin before its deadline: {wait.text}")
    at = head.deadline if wait.look_at is None else min(wait.look_at, head.deadline)
    this.waits[head.id] = replace(wait, look_at=at)
    return None


def _may_begin(this: _Round, head: LaneHead) -> bool:
    """Return whether a task might begin before its deadline if running tasks end early and use nothing more."""
    assert head.deadline is not None
    if this.waits[head.id].why == "fairness":
        return True
    agents = this.ready.get(head.id, [])
    if head.kind == TURN:
        agents = [agent for agent in this.view.agents if agent.name == head.agent]

    def free(agent: DispatchAgent) -> Sequence[WindowState]:
        return [replace(each, reserved=0.0, reserved_high=None, under_way=0) for each in this.view.draw(agent)]

    for agent in agents:
        if agent.readiness == "startable":
            return True
        found = pace_admission.decide(
            free(agent), this.view.cost(head, agent), head.urgency, this.view.now, this.view.pacing
        )
        if isinstance(found, pace_admission.Admitted) or (found.at is not None and found.at <= head.deadline):
            return True
    return False
