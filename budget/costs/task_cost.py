"""The likely cost of a task: learned from similar ended tasks, and projected with a requester's own estimate. Pure.

The estimate uses the ended tasks of the same role, runtime, model and kind. If they are fewer than `ENOUGH`, it uses
the tasks of the role and kind, and then those of the role. If these are too few as well, it mixes them with a prior,
which is a guess and is called one.

Recent tasks count more: the weight of a task halves every `HALF_LIFE_S`. No task has more than a fifth of the total
weight, however old the others are. So one absurd task moves the quantiles by at most one place.

A projection decides when and in which order tasks begin, so a requester has a reason to estimate too little. An
estimate that is too high makes other tasks wait for usage that never happens. So a person's estimate has a learned
minimum and maximum: the median of such tasks, and the share of people's estimates that such tasks used. After five
tasks, an estimate that is five times too high counts a fifth. One that is five times too low counts five times as much,
but at most the 80th percentile of such tasks. An agent's estimate can only raise the projection, and at most to the
90th percentile.

The projection is the 80th percentile only once that is learned. A guess of it could hold the first messages of a day
for hours under a small budget. So a guess is projected by its median; limits hold in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias

from budget.windows.pace_admission import Cost
from budget.windows.running_task_reserve import HIGH_OF_PROJECTED

#: Seconds since its end after which a task counts half.
HALF_LIFE_S = 14 * 86_400.0
#: The number of tasks from which on the prior is left out.
ENOUGH = 5
#: The number of newest tasks of a level to use.
REMEMBERED = 500
#: The minimum weight, since repeated halving would reach zero.
_LEAST_WEIGHT = 2.0**-200

Level: TypeAlias = Literal["same", "kind", "role", "none"]
"""The common properties of the tasks behind an estimate. same: role, runtime, model and kind. kind: role and kind.
role: the role. none: there were no such tasks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """An ended task and its cost."""

    role: str | None
    runtime: str | None
    model: str | None
    kind: str
    tokens: float
    """Weighted tokens."""
    usd: float | None
    """US dollars; None if the price of any part is unknown."""
    estimated_tokens: float | None
    """The projection before the task began, in weighted tokens."""
    said: float | None = None
    """A person's own estimate in weighted tokens, or None."""
    ended_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """The costs that 50, 80 and 90 of 100 such tasks stay within."""

    p50: float
    p80: float
    p90: float

    def times(self, factor: float) -> Range:
        return Range(p50=self.p50 * factor, p80=self.p80 * factor, p90=self.p90 * factor)


#: The assumed cost of tasks before anything was learned, in weighted tokens: a wide guess. A turn is one question to an
#: agent that already has its context, with cache reads at a tenth; a task begins with reading.
PRIORS: Mapping[str, Range] = {
    "task": Range(p50=100_000.0, p80=300_000.0, p90=600_000.0),
    "turn": Range(p50=15_000.0, p80=60_000.0, p90=120_000.0),
}
DEFAULT_PRIOR = PRIORS["task"]
#: The assumed price of a weighted token in US dollars: a guess, based on the input price of a large model.
GUESSED_USD_PER_TOKEN = 6e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnedCost:
    """The likely cost of a task, and the basis of that estimate."""

    count: int
    """The number of tasks behind the estimate."""
    level: Level
    p50: float
    """Weighted tokens, like p80 and p90."""
    p80: float
    p90: float
    usd_per_token: float | None
    """The price of a weighted token of such tasks in US dollars; None if no price is known."""
    basis: str
    """The basis of the estimate, as a clause for people."""
    prior: bool
    """Whether the tasks were too few, so that the estimate includes a guess."""
    median_abs_error: float | None
    """The median error of past projections in weighted tokens; None if there were none."""
    median_error_share: float | None
    """The median error as a share of the actual cost: 0.3 means 30 percent."""
    judged: int
    """The number of past projections that could be compared with the actual cost."""
    held: int
    """The number of these tasks that stayed within their projection."""
    of_said: tuple[float, float] | None = None
    """The shares of people's own estimates that 80 and 90 of 100 such tasks used: 0.2 if people estimate five times too
    much. None if too few tasks had such an estimate."""

    @property
    def tokens(self) -> Range:
        return Range(p50=self.p50, p80=self.p80, p90=self.p90)

    @property
    def usd(self) -> Range | None:
        """The cost in US dollars; None if no price is known."""
        return None if self.usd_per_token is None else self.tokens.times(self.usd_per_token)


def learn(
    past: Iterable[Past],
    *,
    role: str | None,
    runtime: str | None = None,
    model: str | None = None,
    kind: str = "task",
    now: float,
    prior: Range | None = None,
) -> LearnedCost:
    """Return the likely cost of a task of this role.

    Args:
        past: ended tasks that include all known tasks of this role; other roles are ignored.
        role: the role; None for all roles.
        runtime: the runtime of the task; None if unknown, so that every runtime counts.
        model: the model of the task; None if unknown, so that every model counts.
        kind: the kind of the task.
        now: seconds since the epoch; a task that ended later counts as ended now.
        prior: the prior to use instead of `PRIORS`.
    """
    of_role = [each for each in past if role in (None, each.role) and each.tokens >= 0]
    of_kind = [each for each in of_role if each.kind == kind]
    same = [each for each in of_kind if runtime in (None, each.runtime) and model in (None, each.model)]
    levels: tuple[tuple[Level, list[Past]], ...] = (("same", same), ("kind", of_kind), ("role", of_role))
    level, found = next((each for each in levels if len(each[1]) >= ENOUGH), ("role" if of_role else "none", of_role))
    found = sorted(found, key=lambda each: each.ended_at)[-REMEMBERED:]
    guess = prior or PRIORS.get(kind, DEFAULT_PRIOR)
    weights = weights_of([each.ended_at for each in found], now)
    points = [(each.tokens, weight) for each, weight in zip(found, weights, strict=True)]
    few = len(found) < ENOUGH
    if few:
        points += _steps(guess, ENOUGH - sum(weights))
    errors = [
        (abs(each.estimated_tokens - each.tokens), each.tokens, each.estimated_tokens >= each.tokens, weight)
        for each, weight in zip(found, weights, strict=True)
        if each.estimated_tokens is not None
    ]
    return LearnedCost(
        count=len(found),
        level=level,
        p50=quantile(points, 0.5),
        p80=quantile(points, 0.8),
        p90=quantile(points, 0.9),
        usd_per_token=_price(found, weights),
        basis=_basis(level, len(found), role, runtime, model, kind, guess if few else None),
        prior=few,
        median_abs_error=quantile([(off, weight) for off, _, _, weight in errors], 0.5) if errors else None,
        median_error_share=(
            quantile([(off / actual, weight) for off, actual, _, weight in errors if actual > 0], 0.5)
            if any(actual > 0 for _, actual, _, _ in errors)
            else None
        ),
        of_said=_of_said(found, weights),
        judged=len(errors),
        held=sum(within for _, _, within, _ in errors),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TypicalTurn:
    """The cost of one typical turn."""

    tokens: float
    """Weighted tokens."""
    usd: float


def typical_turn(seen: Sequence[tuple[float, float | None]]) -> TypicalTurn:
    """Return the median cost of turns, or a guess if fewer than `ENOUGH` are known.

    Args:
        seen: weighted tokens and US dollars (None if the price is unknown) of each turn. Turns without tokens are
            ignored.
    """
    turns = [(tokens, usd) for tokens, usd in seen if tokens > 0]
    priced = [usd for _, usd in turns if usd is not None]
    guess = PRIORS["turn"].p50
    tokens = quantile([(each, 1.0) for each, _ in turns], 0.5) if len(turns) >= ENOUGH else guess
    usd = quantile([(each, 1.0) for each in priced], 0.5) if len(priced) >= ENOUGH else guess * GUESSED_USD_PER_TOKEN
    return TypicalTurn(tokens=tokens, usd=usd)


def weights_of(ended: Sequence[float], now: float) -> list[float]:
    """Return the weight of each task by its end: 1 for one that ended now, and half as much for each `HALF_LIFE_S`.

    Of `ENOUGH` tasks or more, none has more than a fifth of the total weight.
    """
    weights = [max(_LEAST_WEIGHT, 0.5 ** (min(max(0.0, now - at), 1e12) / HALF_LIFE_S)) for at in ended]
    if len(weights) < ENOUGH:
        return weights
    # Cap the largest weights to a fifth of the new total. If `cut` weights are capped, each is the sum of the uncapped
    # ones divided by (5 - `cut`).
    order = sorted(weights, reverse=True)
    rests = list(accumulate(reversed(order)))[::-1]
    caps = [rests[cut] / (ENOUGH - cut) for cut in range(ENOUGH)]
    cap = next(cap for largest, cap in zip(order, caps, strict=False) if largest <= cap)
    return [min(weight, cap) for weight in weights]


def quantile(points: Sequence[tuple[float, float]], share: float) -> float:
    """Return the smallest value that `share` of the weight stays within.

    Args:
        points: values and their weights; at least one.
        share: a fraction from 0 to 1.
    """
    ordered = sorted(points)
    totals = list(accumulate(weight for _, weight in ordered))
    wanted = share * totals[-1]
    # Sums of the same weights in different orders differ in their last digits.
    near = wanted - 1e-9 * totals[-1]
    return next(value for (value, _), total in zip(ordered, totals, strict=True) if total >= near)


def _steps(guess: Range, weight: float) -> list[tuple[float, float]]:
    """Return a prior as weighted points that have its quantiles."""
    return [(guess.p50, 0.5 * weight), (guess.p80, 0.3 * weight), (guess.p90, 0.2 * weight)]


def _price(found: Sequence[Past], weights: Sequence[float]) -> float | None:
    rates = [
        (each.usd / each.tokens, weight)
        for each, weight in zip(found, weights, strict=True)
        if each.usd is not None and each.tokens > 0
    ]
    return quantile(rates, 0.5) if rates else None


def _of_said(found: Sequence[Past], weights: Sequence[float]) -> tuple[float, float] | None:
    parts = [
        (each.tokens / each.said, weight)
        for each, weight in zip(found, weights, strict=True)
        if each.said is not None and each.said > 0 and each.tokens > 0
    ]
    return (quantile(parts, 0.8), quantile(parts, 0.9)) if len(parts) >= ENOUGH else None


def _basis(
    level: Level,
    count: int,
    role: str | None,
    runtime: str | None,
    model: str | None,
    kind: str,
    guess: Range | None,
) -> str:
    who = f"role {role}" if role is not None else "any role"
    alike = ", ".join(
        (who, *(f"{name} {value}" for name, value in (("runtime", runtime), ("model", model)) if value is not None))
    )
    of = {"same": f"{alike}, kind {kind}", "kind": f"{who}, kind {kind}", "role": who, "none": who}[level]
    few = f"{count} ended {'task' if count == 1 else 'tasks'} ({of})"
    if guess is None:
        return few
    prior = f"a guess (half within {guess.p50:,.0f} weighted tokens, four fifths within {guess.p80:,.0f})"
    return f"{few} and {prior}" if count else f"{prior}, because no task of {who} ended yet"


def expected(
    learned: LearnedCost,
    estimate: float | None = None,
    *,
    by_agent: bool = False,
    usd_per_token: float | None = None,
) -> Cost:
    """Return the projected cost of a task.

    Args:
        learned: the learned cost of such tasks.
        estimate: the requester's own estimate in weighted tokens, or None.
        by_agent: whether an agent requests the task.
        usd_per_token: the price of a weighted token if such tasks have none; None if this is unknown too.
    """
    tokens, high = learned.p50 if learned.prior else learned.p80, learned.p90
    if estimate is not None and estimate >= 0:
        if by_agent:
            tokens = min(max(estimate, tokens), learned.p90)
        else:
            part, most = (1.0, HIGH_OF_PROJECTED) if learned.of_said is None else learned.of_said
            tokens = estimate * min(1.0, part)
            if not learned.prior:
                # Raise an estimate that is too low, at most to the 80th percentile of such tasks.
                tokens = max(tokens, learned.p50, min(estimate * part, learned.p80))
            high = max(HIGH_OF_PROJECTED * tokens, estimate * min(HIGH_OF_PROJECTED, most))
    price = usd_per_token if learned.usd_per_token is None else learned.usd_per_token
    return Cost(
        tokens=tokens,
        usd=None if price is None else tokens * price,
        high_tokens=high,
        high_usd=None if price is None else high * price,
    )
