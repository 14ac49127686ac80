"""Weeks of a subscription in fast motion, dispatched by production's own decisions.

A provider grants a window of seven days, again and again. Tasks are asked for in bursts, by day, on weekdays; they cost
other than projected; the provider reports the window late, rounded, or not at all. Production's pure functions decide:
budget.windows.provider_quota reads the reports, budget.windows.window_state draws the line,
budget.costs.task_cost projects, budget.dispatch.next_task says which task begins and why others wait,
budget.dispatch.fair_queueing charges for it. Beside the even pace run two others in place of
budget.windows.pace_admission: greedy, which begins what the window still holds; and whole days, which lets each day's
share be spent at once.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

from budget.costs import task_cost
from budget.costs.task_cost import expected
from budget.dispatch import fair_queueing, next_task
from budget.dispatch.next_task import Assign, DispatchAgent, LaneHead, QueueView, lane_of
from budget.windows import pace_admission, provider_quota, running_task_reserve
from budget.windows.pace_admission import Cost, EvenSpreadLine, Urgency, WindowState

Law: TypeAlias = Literal["even", "greedy", "days"]

STEP_S = 900.0
DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
SHORT_S = 5 * 3_600.0
#: Tasks under way at once.
AT_ONCE = 8
#: Weighted tokens that a task uses in a second: a window of 40 million in 14 hours by eight.
TOKENS_PER_S = 100.0
URGENCIES: tuple[Urgency, ...] = ("critical", "high", "normal", "low")
#: How much of what is asked for has each urgency.
MIX = (0.03, 0.12, 0.7, 0.15)
#: Kinds of task: how often, and half of them cost less than so many weighted tokens.
KINDS = (("question", 0.5, 12_000.0), ("fix", 0.4, 80_000.0), ("feature", 0.1, 400_000.0))
#: No turn goes on for ever: the breaker ends it.
LARGEST = 5e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What is asked for, and how well it is seen."""

    name: str
    demand: float = 1.3
    """What is asked for in a week, as a multiple of the window."""
    nights: float = 1.0
    """How much is asked for by night, against the day."""
    weekends: float = 1.0
    bursts: float = 0.0
    """The share that comes in bursts, dozens at a time."""
    size: float = 1.0
    """Of costs, against `KINDS`."""
    spread: float = 0.7
    """Of costs around their median: the sigma of their logarithm."""
    drift: float = 1.0
    """What tasks cost from the middle of each window on, against before: projections lag behind."""
    late_s: float = 60.0
    """Observations say what was the case up to so long ago."""
    missing: float = 0.2
    """The share of observations that do not come."""
    rounding: float = 0.0
    elsewhere: float = 0.0
    """What somebody else spends on the account, as a share of a window in a week."""
    operators: tuple[float, ...] = (1.0,)
    """Each operator's share of what is asked for."""
    mix: tuple[float, float, float, float] = MIX
    """The share of each urgency."""
    backlog: float = 1 / 7
    """While so much of normal and low urgency waits, as a share of a window, nobody asks for more of it."""
    large: float = 0.0
    """One task each week needs so much of the window."""
    estimated: float | None = None
    """Each task comes with an estimate: its true cost times this."""
    short: float | None = None
    """There are windows of five hours, too, each of this share of the week's."""
    early: float = 0.0
    """How many windows of ten begin anew before their time, untold."""
    restarts: float = 0.0
    """How often a week Muster is down, for up to six hours. What is under way goes on meanwhile."""
    jumps: float = 0.0
    """How often a week the clock is set wrong by up to a day, or right again."""


LOADS = (
    Load(name="steady"),
    Load(name="bursts", bursts=0.7, rounding=0.01),
    Load(name="by day, on weekdays", nights=0.05, weekends=0.1, demand=1.4),
    Load(name="mis-estimated", spread=1.1, drift=1.6, rounding=0.01),
    Load(name="seen late", late_s=2 * 3_600.0, rounding=0.01, bursts=0.3),
    Load(name="seen seldom", missing=0.97, late_s=1_800.0, bursts=0.3),
    Load(name="shared with a person", elsewhere=0.15, nights=0.2, rounding=0.01, missing=0.5),
    Load(name="all at once", bursts=0.9, demand=2.5, spread=0.9, late_s=1_800.0, rounding=0.01, missing=0.5),
    Load(name="little to do", demand=0.6, nights=0.2, weekends=0.2, bursts=0.3),
    Load(name="everything", bursts=0.5, nights=0.2, weekends=0.3, spread=0.9, drift=1.4, late_s=3_600.0, missing=0.8,
         rounding=0.01, elsewhere=0.05, demand=1.5),
)  # fmt: skip

#: What the law is held against besides: who waits, and how much is used, where the queue is hard.
TRIALS = (
    Load(name="backlog of days", demand=1.6, backlog=0.5),
    Load(name="10 operators", demand=2.5, backlog=0.5, operators=(0.1,) * 10),
    Load(name="40 operators", demand=2.5, backlog=0.5, operators=(0.025,) * 40),
    Load(name="one of 40 % a week", demand=1.3, backlog=0.5, large=0.4),
    Load(name="one of 75 % a week", demand=1.3, backlog=0.5, large=0.75),
    Load(name="5 h windows", demand=1.6, backlog=0.5, short=0.05, size=0.25),
    Load(name="estimates 5 times too high", demand=1.6, backlog=0.5, estimated=5.0),
    Load(name="operators 90 / 6 / 4 %", demand=1.6, backlog=0.5, operators=(0.9, 0.06, 0.04)),
    Load(name="early resets", demand=1.6, backlog=0.5, early=3.0),
)


@dataclass(slots=True)
class _Task:
    head: LaneHead
    kind: str
    size: float
    estimate: float | None
    asked_at: float
    large: bool = False
    used: float = 0.0
    cost: Cost | None = None
    weight: float = 1.0


@dataclass(slots=True)
class Week:
    """What happened to one window."""

    load: str
    law: Law
    exhausted_at: float | None = None
    """When all of it was used, as a share of its time; None: never."""
    used: float = 0.0
    """At its end, as a share; what came after it was used up is not counted."""
    wanted: bool = True
    """There was work waiting or under way through the last day."""
    waits: dict[Urgency, list[float]] = field(default_factory=lambda: {urgency: [] for urgency in URGENCIES})
    """Seconds that tasks waited which began in this window."""
    by_operator: dict[str, list[float]] = field(default_factory=dict)
    """The same by operator."""
    served: dict[Urgency, float] = field(default_factory=lambda: dict.fromkeys(URGENCIES, 0.0))
    """What tasks of each urgency used, as a share."""
    waited: dict[Urgency, float] = field(default_factory=lambda: dict.fromkeys(URGENCIES, 0.0))
    """For what share of a whole window's time a task of each urgency waited."""
    large_windows: list[int] = field(default_factory=list)
    """In which window since it was asked for each task began that is known to be large: 1 is the same. Those that the
    provider ended before their time are not counted."""
    tail: float = 0.0
    """By how much the task cost more than projected that did so the most, as a share of the window."""
    pressed: float = 0.0
    """What the critical tasks used that were under way when it was used up, as a share of the window."""
    curve: list[tuple[float, float]] = field(default_factory=list)
    """How much was used by when: shares of time and of the window."""

    @property
    def was_early(self) -> bool:
        """Whether it was used up before 97 percent of its time."""
        return self.exhausted_at is not None and self.exhausted_at < 0.97

    @property
    def was_early_by_law(self) -> bool:
        """Whether that was neither for one task that cost a tenth of the window more than projected, as nothing ends a
        task under way, nor for critical work, without which the use would not have been ahead of an even pace."""
        at = self.exhausted_at
        return self.was_early and self.tail <= 0.1 and at is not None and 1 - self.pressed > at


def play(load: Load, law: Law, weeks: int, seed: int) -> list[Week]:
    """Windows of one account, one after the other; what was learned in one is known in the next.

    The same seed asks for the same work and makes the same provider, whatever the law.
    """
    return _Account(load, law, seed).play(weeks)


@dataclass(slots=True)
class _Provider:
    """One window of the account, as the provider counts it and as it was seen."""

    name: str
    length: float
    capacity: float
    reset: float
    used: float = 0.0
    history: list[provider_quota.QuotaSample] = field(default_factory=list)
    coming: list[tuple[float, int, provider_quota.QuotaSample]] = field(default_factory=list)
    per_token: float | None = None
    line: EvenSpreadLine | None = None

    @property
    def key(self) -> str:
        return f"account:main/{self.name}"


class _Account:
    def __init__(self, load: Load, law: Law, seed: int) -> None:
        self.load, self.law = load, law
        self.asking, self.world = random.Random(f"{seed}/asking"), random.Random(f"{seed}/world")
        self.zone = ZoneInfo(self.world.choice(("UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata")))
        self.policy = pace_admission.PacePolicy(zone=self.zone)
        self.capacity = self.world.uniform(20e6, 60e6)
        """Weighted tokens of a week's window, which only the provider knows."""
        began = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self.world.uniform(0, 365 * 24))
        self.now = began.timestamp()
        self.week = _Provider(name="7d", length=WEEK_S, capacity=self.capacity, reset=self.now)
        self.windows = [self.week]
        if load.short is not None:
            short = _Provider(name="5h", length=SHORT_S, capacity=self.capacity * load.short, reset=self.now)
            self.windows.append(short)
        self.lanes: dict[str, deque[_Task]] = {}
        self.live: list[_Task] = []
        self.past = {kind: deque[task_cost.Past](maxlen=200) for kind, _, _ in KINDS}
        self.learned: dict[str, task_cost.LearnedCost] = {}
        self.ahead: dict[str, float] = {}
        self.counted: deque[tuple[float, float]] = deque(maxlen=3 * int(WEEK_S / STEP_S))
        """How many tokens had gone through by when."""
        self.saves: dict[str, float] = {}
        self.number = 0
        self.tokens = self.waiting = self.day_began_at = self.day_used = 0.0
        self.decided: tuple[object, float] | None = None
        self.whole: list[float] = []
        """When windows ended that ran to their end."""
        self.skew = self.down_until = 0.0

    @property
    def clock(self) -> float:
        """What the host's clock shows."""
        return self.now + self.skew

    def play(self, weeks: int) -> list[Week]:
        return [self._week() for _ in range(weeks)]

    def _week(self) -> Week:
        week = Week(load=self.load.name, law=self.law)
        self.began, self.week.used = self.week.reset, 0.0
        self.week.reset += WEEK_S
        end = self.week.reset
        if self.world.random() * 10 < self.load.early:
            # The provider begins it again before its time, and tells so only with the next response.
            end -= self.world.uniform(0.1, 0.6) * WEEK_S
        large_at = self.began + self.asking.random() * WEEK_S
        idle = 0
        while self.now < end:
            part = (self.now - self.began) / WEEK_S
            for window in self.windows[1:]:
                if self.now >= window.reset:
                    window.used, window.reset = 0.0, window.reset + window.length
            if self.load.large and self.now <= large_at < self.now + STEP_S:
                self._put("feature", "normal", self.load.large * self.capacity, "o0", large=True)
            if self.now >= self.down_until:
                for window in self.windows:
                    # What was told since the last step, before more is used.
                    self._see(window)
            self._ask(part)
            self._spend(week, part)
            self.counted.append((self.clock, self.tokens))
            self._disturb()
            if self.now >= self.down_until:
                for window in self.windows:
                    self._see(window)
                self._dispatch(week)
            for urgency in {lane[0].head.urgency for lane in self.lanes.values()}:
                week.waited[urgency] += STEP_S / WEEK_S
            week.curve.append((part, min(1.0, self.week.used)))
            if part > 6 / 7 and not self.lanes:
                idle += 1
            self.now += STEP_S
        week.used, week.wanted = min(1.0, self.week.used), idle == 0 and end == self.week.reset
        if end == self.week.reset:
            self.whole.append(end)
        self.week.reset = end
        return week

    # --- the world ----------------------------------------------------------------------------------------------

    def _ask(self, part: float) -> None:
        """New tasks of this step."""
        local = datetime.fromtimestamp(self.now, self.zone)
        chance = self.load.demand * self.capacity / WEEK_S * STEP_S / (self.load.size * _mean(self.load.spread))
        shape = (1.0 if 8 <= local.hour < 20 else self.load.nights) * (
            1.0 if local.weekday() < 5 else self.load.weekends
        )
        usual = (0.5 + 0.5 * self.load.nights) * (5 + 2 * self.load.weekends) / 7
        count = chance * shape / usual
        number = _poisson(self.asking, count * (1 - self.load.bursts))
        if self.asking.random() < 1 / 48:
            number += _poisson(self.asking, 48 * count * self.load.bursts)
        kinds, often = [kind for kind, _, _ in KINDS], [weight for _, weight, _ in KINDS]
        names = [f"o{place}" for place in range(len(self.load.operators))]
        for _ in range(number):
            kind = self.asking.choices(kinds, often)[0]
            median = next(size for name, _, size in KINDS if name == kind)
            urgency = self.asking.choices(URGENCIES, self.load.mix)[0]
            operator = self.asking.choices(names, self.load.operators)[0]
            size = median * math.exp(self.asking.gauss(0, self.load.spread)) * (self.load.drift if part > 0.5 else 1.0)
            if urgency in ("normal", "low") and self.waiting > self.load.backlog * self.capacity:
                continue
            self._put(kind, urgency, min(self.load.size * size, LARGEST), operator)

    def _disturb(self) -> None:
        """Stop Muster for a while, or set its clock."""
        steps = WEEK_S / STEP_S
        if self.load.restarts and self.world.random() < self.load.restarts / steps:
            self.down_until = self.now + self.world.uniform(0, 6 * 3_600.0)
            # What only memory has.
            self.learned.clear()
            self.decided = None
        if self.load.jumps and self.world.random() < self.load.jumps / steps:
            self.skew = 0.0 if self.skew else self.world.choice((-1.0, 1.0)) * self.world.uniform(60.0, DAY_S)

    def _put(self, kind: str, urgency: Urgency, size: float, operator: str, *, large: bool = False) -> None:
        self.number += 1
        wrong = self.load.estimated
        estimate = size * wrong if wrong is not None else size if large else None
        head = LaneHead(
            id=f"{self.number}", seq=self.number, kind=kind, operator=operator, role="coder", agent=None,
            urgency=urgency, created_at=self.clock,
        )  # fmt: skip
        lane = lane_of(kind=kind, operator=operator, role="coder", agent=None, urgency=urgency, estimate=estimate)
        self.lanes.setdefault(lane, deque()).append(
            _Task(head=head, kind=kind, size=size, estimate=estimate, asked_at=self.now, large=large)
        )
        if not large:
            self.waiting += size

    def _spend(self, week: Week, part: float) -> None:
        """What is under way goes on, as long as the provider lets it."""
        elsewhere = self.load.elsewhere * STEP_S / WEEK_S * (2 if self.world.random() < 0.5 else 0)
        for window in self.windows:
            window.used += elsewhere * self.capacity / window.capacity
        worked = bool(self.live)
        critical = [task for task in self.live if task.head.urgency == "critical"]
        if all(window.used < 1 for window in self.windows):
            for task in list(self.live):
                # A large one works with more at once, or it could not end in its window.
                speed = max(TOKENS_PER_S, task.size / (8 * 3600.0))
                spent = min(speed * STEP_S, task.size - task.used)
                task.used += spent
                self.tokens += spent
                week.served[task.head.urgency] += spent / self.capacity
                for window in self.windows:
                    window.used += spent / window.capacity
                if task.used >= task.size:
                    self.live.remove(task)
                    self._settle(task)
        if self.week.used >= 1 and week.exhausted_at is None:
            # Whose clock is ahead takes the reset for nearer than it is.
            week.exhausted_at = part + max(0.0, self.skew) / WEEK_S
            week.pressed = sum(task.used for task in critical) / self.capacity
        if worked and self.world.random() >= self.load.missing:
            for window in self.windows:
                self._tell(window)

    def _tell(self, window: _Provider) -> None:
        rounding = self.load.rounding
        used = round(window.used / rounding) * rounding if rounding else window.used
        late = self.load.late_s * self.world.random() * 2
        # Within a step it is as good as at once.
        at = self.now + (late if late >= STEP_S else 0.0)
        seen = provider_quota.QuotaSample(
            account="main", window=window.name, seen_at=at + self.skew, used=used, length_s=window.length,
            reset_at=window.reset + self.world.uniform(-30, 30), status="allowed" if window.used < 1 else "rejected",
        )  # fmt: skip
        heapq.heappush(window.coming, (at, len(window.history) + len(window.coming), seen))

    def _settle(self, task: _Task) -> None:
        assert task.cost is not None
        if not task.large:
            past = task_cost.Past(
                role="coder", runtime="claude", model="opus", kind=task.kind, tokens=task.size, usd=None,
                estimated_tokens=task.cost.tokens, said=task.estimate, ended_at=self.clock,
            )  # fmt: skip
            self.past[task.kind].append(past)
            self.learned.pop(task.kind, None)
        queue = task.head.queue
        waits = any(lane[0].head.queue == queue for lane in self.lanes.values())
        self.ahead[queue] = fair_queueing.settled(
            self.ahead.get(queue, 0.0), weight=task.weight, charged=task.cost.tokens, actual=task.size, waits=waits
        )

    # --- what is known ------------------------------------------------------------------------------------------

    def _see(self, window: _Provider) -> None:
        """Observations that arrive now."""
        news = False
        while window.coming and window.coming[0][0] <= self.now:
            seen = heapq.heappop(window.coming)[2]
            window.history.append(replace(seen, tokens=self.tokens))
            news = True
        if news:
            del window.history[:-200]
            window.per_token = provider_quota.capacity(window.history) or window.per_token

    def _standing(self, window: _Provider) -> WindowState:
        # What went through since the last observation, or since the window was reset; at the steps of `_see`.
        history = self._seen_by_now(window)
        counts_from = provider_quota.counts_from(history, self.clock, length_s=window.length) or 0.0
        since = self._tokens_since(counts_from)
        reading = provider_quota.read(history, since, self.clock, window.per_token, length_s=window.length)
        known = reading.window(key=window.key, scope="account:main", per_token=window.per_token)
        window.line = pace_admission.redrawn(known, window.line, self.clock, self.policy) or window.line
        assert window.line is not None
        held = running_task_reserve.reserve(
            running_task_reserve.ReservedTask(projected=task.cost.tokens, used=task.used, high=task.cost.high_tokens)
            for task in self.live
            if task.cost is not None
        )
        rate = window.per_token or 0.0
        return pace_admission.WindowState(
            window=known, line=window.line, reserved=held.projected * rate, reserved_high=held.high * rate,
            under_way=len(self.live),
        )  # fmt: skip

    def _seen_by_now(self, window: _Provider) -> Sequence[provider_quota.QuotaSample]:
        """Return the last observations, but for those from what is the future since the clock was set back."""
        if not self.load.jumps:
            return window.history[-25:]
        return [seen for seen in window.history if seen.seen_at <= self.clock][-25:]

    def _tokens_since(self, moment: float) -> float:
        """Return how many tokens went through in what the clock showed as after `moment`."""
        if not self.load.jumps:
            return self.tokens - next((tokens for at, tokens in reversed(self.counted) if at <= moment), 0.0)
        before = [0.0, *(tokens for _, tokens in self.counted)]
        return sum(tokens - earlier for (at, tokens), earlier in zip(self.counted, before, strict=False) if at > moment)

    def _cost(self, task: _Task) -> Cost:
        if task.kind not in self.learned:
            past = self.past[task.kind]
            found = task_cost.learn(past, role="coder", runtime="claude", model="opus", kind=task.kind, now=self.clock)
            self.learned[task.kind] = found
        return expected(self.learned[task.kind], task.estimate)

    # --- dispatch -----------------------------------------------------------------------------------------------

    def _dispatch(self, week: Week) -> None:
        """Begin what may begin, as production decides it."""
        while self.lanes and len(self.live) < AT_ONCE:
            standings = [self._standing(window) for window in self.windows]
            heads = {lane[0].head.id: (key, lane[0]) for key, lane in self.lanes.items()}
            if self.law != "even":
                if not self._compared(standings[0], heads, week):
                    return
                continue
            # As the dispatcher: while nothing changed, it looks again at the time that it was told.
            seen = [
                (each.line.drawn_at, each.window.known_use is None, each.window.resets_at, each.window.per_token)
                for each in standings
            ]
            rests_on = sorted(heads), len(self.live), seen
            if self.decided is not None and self.decided[0] == rests_on and self.clock < self.decided[1]:
                return
            found = next_task.decide(self._view(standings, heads))
            self.decided = None if found.look_at is None else (rests_on, found.look_at)
            for wait in found.waits:
                if wait.saves_from is not None:
                    self.saves[wait.task] = wait.saves_from
            if not isinstance(found.step, Assign):
                return
            assert found.step.charge is not None
            self.ahead = found.step.charge.on(self.ahead)
            key, task = heads[found.step.task]
            task.weight = found.step.charge.weight
            self._begin(key, found.step.cost, week)

    def _view(self, standings: Sequence[WindowState], heads: dict[str, tuple[str, _Task]]) -> QueueView:
        known: dict[str, Any] = {}

        def cost(head: LaneHead, _: DispatchAgent | None) -> Cost:
            if head.id not in known:
                known[head.id] = self._cost(heads[head.id][1])
            found: Cost = known[head.id]
            return found

        return QueueView(
            now=self.clock,
            heads=[
                replace(task.head, saves_from=self.saves[id]) if id in self.saves else task.head
                for id, (_, task) in heads.items()
            ],
            agents=[DispatchAgent(name="coder0", role="coder", runtime="claude", readiness="idle", account="main")],
            ahead=self.ahead,
            pacing=self.policy,
            draw=lambda _: standings,
            cost=cost,
        )

    def _compared(self, standing: WindowState, heads: dict[str, tuple[str, _Task]], week: Week) -> bool:
        """Begin the most urgent by another law than production's; False: nothing may begin."""
        key, task = min(heads.values(), key=lambda one: (URGENCIES.index(one[1].head.urgency), one[1].head.seq))
        cost = self._cost(task)
        used = standing.window.known_use or 0.0
        rate = standing.window.per_token or 0.0
        most = 1.0 if self.law == "greedy" else self._allowance(used) - cost.tokens * rate
        if used + standing.held >= most:
            return False
        self._begin(key, cost, week)
        return True

    def _begin(self, key: str, cost: Cost, week: Week) -> None:
        task = self.lanes[key].popleft()
        if not self.lanes[key]:
            del self.lanes[key]
        task.cost = cost
        week.tail = max(week.tail, (task.size - cost.tokens) / self.capacity)
        self.live.append(task)
        waited = self.now - task.asked_at
        if task.large:
            if cost.tokens > self.capacity * DAY_S / WEEK_S:
                week.large_windows.append(1 + sum(end > task.asked_at for end in self.whole))
        else:
            self.waiting -= task.size
            week.waits[task.head.urgency].append(waited)
            week.by_operator.setdefault(task.head.operator, []).append(waited)

    def _allowance(self, used: float) -> float:
        """Of a whole day: what is left, shared among the days that are left, all of it at once."""
        local = datetime.fromtimestamp(self.now, self.zone)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        began = max(midnight, self.began)
        if began != self.day_began_at:
            days = max(1, math.ceil((self.week.reset - began) / 86_400 - 0.01))
            self.day_began_at, self.day_used = began, used + (1 - used) / days
        return self.day_used


def _mean(spread: float) -> float:
    return sum(weight * size for _, weight, size in KINDS) * math.exp(spread * spread / 2)


def _poisson(source: random.Random, expected: float) -> int:
    """Return how many come when so many are expected (Knuth's way, in parts that do not underflow)."""
    count = 0
    while expected > 0:
        bound, product = math.exp(-min(expected, 30.0)), source.random()
        while product > bound:
            count += 1
            product *= source.random()
        expected -= 30.0
    return count
