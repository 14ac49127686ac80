"""Weeks of a subscription in fast motion: what a fleet asks for, and how much of the window is gone by when.

A provider grants a window of seven days, again and again. Tasks are asked for in bursts, by day, on weekdays; they cost
other than projected; what the provider says of the window comes late, rounded, or not at all. What may begin is decided
by the functions that decide it in production: budget.quota, budget.lines, budget.reserve, budget.costs, budget.pacing.
Beside the even pace run two others: greedy, which begins what the window still holds; and whole days, which lets each
day's share be spent at once.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias
from zoneinfo import ZoneInfo

from budget import costs, pacing, quota, reserve

if TYPE_CHECKING:
    from budget.pacing import Line, Urgency, Window

Law: TypeAlias = Literal["even", "greedy", "days"]

STEP_S = 900.0
WEEK_S = 7 * 86_400.0
KEY, SCOPE = "account:main/7d", "account:main"
#: Tasks under way at once.
AT_ONCE = 8
#: While so much waits, as a share of a window, nobody asks for more: a day's share.
ENOUGH_WAITS = 1 / 7
#: What was asked for so long ago is not passed by what came later.
AGING_S = 12 * 3_600.0
#: Weighted tokens that a task uses in a second: a window of 40 million in 14 hours by eight.
TOKENS_PER_S = 100.0
URGENCIES: tuple[Urgency, ...] = ("critical", "high", "normal", "low")
#: Kinds of task: how often, and half of them cost less than so many weighted tokens.
KINDS = (("question", 0.5, 12_000.0), ("fix", 0.4, 80_000.0), ("feature", 0.1, 400_000.0))


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


@dataclass(slots=True)
class _Task:
    kind: str
    urgency: Urgency
    asked_at: float
    size: float
    used: float = 0.0
    projected: pacing.Cost | None = None


@dataclass(slots=True)
class Week:
    """What became of one window."""

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
    curve: list[tuple[float, float]] = field(default_factory=list)
    """How much was used by when: shares of time and of the window."""

    @property
    def was_early(self) -> bool:
        """Whether it was used up before 97 percent of its time."""
        return self.exhausted_at is not None and self.exhausted_at < 0.97


def play(load: Load, law: Law, weeks: int, seed: int) -> list[Week]:
    """Windows of one account, one after the other; what was learned in one is known in the next.

    The same seed asks for the same work and makes the same provider, whatever the law.
    """
    return _Account(load, law, seed).play(weeks)


class _Account:
    def __init__(self, load: Load, law: Law, seed: int) -> None:
        self.load, self.law = load, law
        self.asking, self.world = random.Random(f"{seed}/asking"), random.Random(f"{seed}/world")
        self.zone = ZoneInfo(self.world.choice(("UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata")))
        self.policy = pacing.Policy(zone=self.zone)
        self.capacity = self.world.uniform(20e6, 60e6)
        """Weighted tokens of a window, which only the provider knows."""
        began = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self.world.uniform(0, 365 * 24))
        self.reset = self.now = began.timestamp()
        self.waiting: dict[Urgency, deque[_Task]] = {urgency: deque() for urgency in URGENCIES}
        self.live: list[_Task] = []
        self.coming: list[tuple[float, int, quota.Seen]] = []
        self.history: list[quota.Seen] = []
        self.past = {kind: deque[costs.Past](maxlen=200) for kind, _, _ in KINDS}
        self.projections: dict[str, pacing.Cost] = {}
        self.per_token: float | None = None
        self.used = self.tokens = self.day_began_at = self.day_used = 0.0
        self.line: Line | None = None

    def play(self, weeks: int) -> list[Week]:
        return [self._week() for _ in range(weeks)]

    def _week(self) -> Week:
        week = Week(load=self.load.name, law=self.law)
        self.used, self.began, self.reset = 0.0, self.reset, self.reset + WEEK_S
        idle = 0
        while self.now < self.reset:
            part = (self.now - self.began) / WEEK_S
            self._ask(part)
            self._spend(week, part)
            self._see()
            self._dispatch(week)
            week.curve.append((part, min(1.0, self.used)))
            if part > 6 / 7 and not any(self.waiting.values()):
                idle += 1
            self.now += STEP_S
        week.used, week.wanted = min(1.0, self.used), idle == 0
        return week

    def _ask(self, part: float) -> None:
        """New tasks of this step."""
        local = datetime.fromtimestamp(self.now, self.zone)
        chance = self.load.demand * self.capacity / WEEK_S * STEP_S / _mean(self.load.spread)
        shape = (1.0 if 8 <= local.hour < 20 else self.load.nights) * (
            1.0 if local.weekday() < 5 else self.load.weekends
        )
        usual = (0.5 + 0.5 * self.load.nights) * (5 + 2 * self.load.weekends) / 7
        expected = chance * shape / usual
        count = _poisson(self.asking, expected * (1 - self.load.bursts))
        if self.asking.random() < 1 / 48:
            count += _poisson(self.asking, 48 * expected * self.load.bursts)
        kinds, weights = [kind for kind, _, _ in KINDS], [weight for _, weight, _ in KINDS]
        for _ in range(count):
            kind = self.asking.choices(kinds, weights)[0]
            median = next(size for name, _, size in KINDS if name == kind)
            urgency = self.asking.choices(URGENCIES, (0.03, 0.12, 0.7, 0.15))[0]
            size = median * math.exp(self.asking.gauss(0, self.load.spread)) * (self.load.drift if part > 0.5 else 1.0)
            # No turn goes on for ever: the breaker ends it.
            size = min(size, 5e6)
            if sum(task.size for lane in self.waiting.values() for task in lane) > ENOUGH_WAITS * self.capacity:
                continue
            self.waiting[urgency].append(_Task(kind=kind, urgency=urgency, asked_at=self.now, size=size))

    def _spend(self, week: Week, part: float) -> None:
        """What is under way goes on, as long as the provider lets it."""
        self.used += self.load.elsewhere * STEP_S / WEEK_S * (2 if self.world.random() < 0.5 else 0)
        if self.used < 1:
            for task in list(self.live):
                spent = min(TOKENS_PER_S * STEP_S, task.size - task.used)
                task.used += spent
                self.tokens += spent
                self.used += spent / self.capacity
                if task.used >= task.size:
                    self.live.remove(task)
                    self._learn(task)
        if self.used >= 1 and week.exhausted_at is None:
            week.exhausted_at = part
        if self.live and self.world.random() >= self.load.missing:
            used = self.used if not self.load.rounding else round(self.used / self.load.rounding) * self.load.rounding
            arrives = self.now + self.load.late_s * self.world.random() * 2
            seen = quota.Seen(
                account="main", window="7d", seen_at=arrives, used=used, length_s=WEEK_S,
                reset_at=self.reset + self.world.uniform(-30, 30), status="allowed" if self.used < 1 else "rejected",
            )  # fmt: skip
            heapq.heappush(self.coming, (arrives, len(self.history) + len(self.coming), seen))

    def _learn(self, task: _Task) -> None:
        past = costs.Past(
            role="coder",
            runtime="claude",
            model="opus",
            kind=task.kind,
            tokens=task.size,
            usd=None,
            estimated_tokens=None,
            ended_at=self.now,
        )
        self.past[task.kind].append(past)
        self.projections.pop(task.kind, None)

    def _see(self) -> None:
        """Observations that arrive now."""
        news = False
        while self.coming and self.coming[0][0] <= self.now:
            seen = heapq.heappop(self.coming)[2]
            self.history.append(replace(seen, tokens=self.tokens))
            news = True
        if news:
            del self.history[:-200]
            self.per_token = quota.capacity(self.history) or self.per_token

    def _window(self) -> Window:
        since = self.tokens - (self.history[-1].tokens or 0.0) if self.history else self.tokens
        reading = quota.read(self.history[-25:], since, self.now, self.per_token, length_s=WEEK_S)
        return reading.window(key=KEY, scope=SCOPE, per_token=self.per_token)

    def _dispatch(self, week: Week) -> None:
        """Begin what may begin."""
        if not any(self.waiting.values()) and self.line is not None:
            return
        window = self._window()
        self.line = pacing.redrawn(window, self.line, self.now, self.policy) or self.line
        assert self.line is not None
        oldest = math.inf
        for urgency in URGENCIES:
            lane = self.waiting[urgency]
            while lane and len(self.live) < AT_ONCE and lane[0].asked_at <= oldest:
                task = lane[0]
                cost = self._cost(task.kind)
                if not self._admits(window, cost, urgency):
                    if urgency != "low" and self.now - task.asked_at >= AGING_S:
                        oldest = min(oldest, task.asked_at)
                    break
                lane.popleft()
                task.projected = cost
                self.live.append(task)
                week.waits[urgency].append(self.now - task.asked_at)

    def _cost(self, kind: str) -> pacing.Cost:
        found = self.projections.get(kind)
        if found is None:
            learned = costs.learn(
                self.past[kind], role="coder", runtime="claude", model="opus", kind=kind, now=self.now
            )
            found = self.projections[kind] = pacing.Cost(tokens=learned.p80, high_tokens=learned.p90)
        return found

    def _admits(self, window: Window, cost: pacing.Cost, urgency: Urgency) -> bool:
        held = reserve.reserve(
            reserve.Live(projected=task.projected.tokens, used=task.used, high=task.projected.high_tokens)
            for task in self.live
            if task.projected is not None
        )
        rate = self.per_token or 0.0
        assert self.line is not None
        standing = pacing.Standing(
            window=window, line=self.line, reserved=held.projected * rate, reserved_high=held.high * rate,
            under_way=len(self.live),
        )  # fmt: skip
        if self.law == "even":
            return isinstance(pacing.decide([standing], cost, urgency, self.now, self.policy), pacing.Admitted)
        used = window.known_use or 0.0
        if self.law == "greedy":
            return used + standing.held < 1
        return used + standing.held + cost.tokens * rate <= self._allowance(used)

    def _allowance(self, used: float) -> float:
        """Of a whole day: what is left, shared among the days that are left, all of it at once."""
        local = datetime.fromtimestamp(self.now, self.zone)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        began = max(midnight, self.began)
        if began != self.day_began_at:
            days = max(1, math.ceil((self.reset - began) / 86_400 - 0.01))
            self.day_began_at, self.day_used = began, used + (1 - used) / days
        return self.day_used


def _mean(spread: float) -> float:
    return sum(weight * size for _, weight, size in KINDS) * math.exp(spread * spread / 2)


def _poisson(source: random.Random, expected: float) -> int:
    """How many come when so many are expected (Knuth's way, in parts that do not underflow)."""
    count = 0
    while expected > 0:
        bound, product = math.exp(-min(expected, 30.0)), source.random()
        while product > bound:
            count += 1
            product *= source.random()
        expected -= 30.0
    return count
