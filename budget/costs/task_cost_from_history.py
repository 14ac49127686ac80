"""What a task will likely cost, by what such tasks have cost before. Pure.

Of the tasks that ended, those of the same role, runtime, model and kind speak first. Where they are fewer than
`ENOUGH`, those of the role and kind do, then those of the role, and where these are too few as well, they are mixed
with a prior, which is a guess and is called one.

What is recent counts more: a past's weight halves every `HALF_LIFE_S`. No past has more than a fifth of all weight,
however old the others are, so that one absurd task moves the quantiles by one place at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: A task that ended so long ago counts half as much as one that ended now.
HALF_LIFE_S = 14 * 86_400.0
#: So many tasks are needed before the prior is left out.
ENOUGH = 5
#: What the pasts of one level are narrowed to: the newest.
REMEMBERED = 500
#: Weights below this are nothing; halving has to end somewhere, or they would come to zero.
_LEAST_WEIGHT = 2.0**-200

Level: TypeAlias = Literal["same", "kind", "role", "none"]
"""What was alike in the tasks that an estimate rests on: role, runtime, model and kind; role and kind; the role; there
were none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """A task that ended, and what it came to."""

    role: str | None
    runtime: str | None
    model: str | None
    kind: str
    tokens: float
    """Weighted."""
    usd: float | None
    """None: of a part at least, no price is known."""
    estimated_tokens: float | None
    """What it was projected to use before it began (weighted)."""
    said: float | None = None
    """What a person said that it would use (weighted); None: nobody did."""
    ended_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """How much half of such tasks stay within, four fifths, and nine tenths."""

    p50: float
    p80: float
    p90: float

    def times(self, factor: float) -> Range:
        return Range(p50=self.p50 * factor, p80=self.p80 * factor, p90=self.p90 * factor)


#: What tasks come to while nothing is known, in weighted tokens: a guess, and wide. A turn is one question to an agent
#: that has its context already, cache reads at a tenth; a task begins with reading.
PRIORS: Mapping[str, Range] = {
    "task": Range(p50=100_000.0, p80=300_000.0, p90=600_000.0),
    "turn": Range(p50=15_000.0, p80=60_000.0, p90=120_000.0),
}
DEFAULT_PRIOR = PRIORS["task"]
#: What a weighted token costs in US dollars while nothing is known: a guess, as a large model's input is priced.
GUESSED_USD_PER_TOKEN = 6e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnedCost:
    """What a task will likely cost, and what that rests on."""

    count: int
    """Tasks that it rests on."""
    level: Level
    p50: float
    """Weighted tokens, as are p80 and p90."""
    p80: float
    p90: float
    usd_per_token: float | None
    """What a weighted token of such tasks cost; None: of none of them a price is known."""
    basis: str
    """What it rests on, as a clause for people."""
    prior: bool
    """They were too few, so that it is mixed with a guess."""
    median_abs_error: float | None
    """Half of the past projections were off by no more than this (weighted tokens); None: there were none."""
    median_error_share: float | None
    """The same, of what the tasks came to: 0.3 is off by 30 percent."""
    judged: int
    """Past projections that could be compared with what the tasks came to."""
    held: int
    """How many of these tasks stayed within what was projected."""
    of_said: tuple[float, float] | None = None
    """Of what people said, the parts that 80 and 90 of 100 such tasks used: 0.2 where they say five times too much.
    None: people said something of too few of them."""

    @property
    def tokens(self) -> Range:
        return Range(p50=self.p50, p80=self.p80, p90=self.p90)

    @property
    def usd(self) -> Range | None:
        """The same in US dollars; None: no price is known."""
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
    """Return what a task of this role will likely cost.

    Args:
        past: tasks that ended, of this role at least; others are passed over.
        role: whose task it is; None: anybody's.
        runtime: that will do it; None: not known yet, and any speaks for it.
        model: likewise.
        kind: of the task.
        now: seconds since the epoch; what ended after that is taken to have ended now.
        prior: instead of the one of `PRIORS`.
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
    """What one typical turn comes to."""

    tokens: float
    """Weighted."""
    usd: float


def typical_turn(seen: Sequence[tuple[float, float | None]]) -> TypicalTurn:
    """Return what half of the turns stay within; a guess while fewer than `ENOUGH` are known.

    Args:
        seen: of turns the weighted tokens, and the US dollars where the price is known. Turns without tokens are left
            out.
    """
    turns = [(tokens, usd) for tokens, usd in seen if tokens > 0]
    priced = [usd for _, usd in turns if usd is not None]
    guess = PRIORS["turn"].p50
    tokens = quantile([(each, 1.0) for each, _ in turns], 0.5) if len(turns) >= ENOUGH else guess
    usd = quantile([(each, 1.0) for each in priced], 0.5) if len(priced) >= ENOUGH else guess * GUESSED_USD_PER_TOKEN
    return TypicalTurn(tokens=tokens, usd=usd)


def weights_of(ended: Sequence[float], now: float) -> list[float]:
    """Return how much each past counts: 1 for one that ended now, half of that each `HALF_LIFE_S` before; of `ENOUGH`
    pasts and more, none has more than a fifth of the whole."""
    weights = [max(_LEAST_WEIGHT, 0.5 ** (min(max(0.0, now - at), 1e12) / HALF_LIFE_S)) for at in ended]
    if len(weights) < ENOUGH:
        return weights
    # The largest are cut to a fifth of what all then come to: each of those has the rest over what remains of five.
    order = sorted(weights, reverse=True)
    rests = list(accumulate(reversed(order)))[::-1]
    caps = [rests[cut] / (ENOUGH - cut) for cut in range(ENOUGH)]
    cap = next(cap for largest, cap in zip(order, caps, strict=False) if largest <= cap)
    return [min(weight, cap) for weight in weights]


def quantile(points: Sequence[tuple[float, float]], share: float) -> float:
    """Return the smallest value that `share` of the weight stays within.

    Args:
        points: values and their weights; one at least.
        share: 0 to 1.
    """
    ordered = sorted(points)
    totals = list(accumulate(weight for _, weight in ordered))
    wanted = share * totals[-1]
    # Sums of the same weights in another order differ in their last digits.
    near = wanted - 1e-9 * totals[-1]
    return next(value for (value, _), total in zip(ordered, totals, strict=True) if total >= near)


def _steps(guess: Range, weight: float) -> list[tuple[float, float]]:
    """Return a prior as points, whose quantiles are its own."""
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
