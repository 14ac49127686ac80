"""Whether a request may leave: the decision at the gate, over what stands against each limit that governs it. Pure.

What holds, whatever requests come together:

- Nothing is admitted once a limit is used up, nor where what others reserved would leave too little.
- What requests use within their reservations never passes a limit, however many run at once.
- A request that uses more than it reserved is bounded twice. Its output is clamped to what was left when it was
  admitted. And the gate counts what streams as it comes: when that passes the limit, all that draw on it are cut. A
  limit is overshot at most by what the requests that are in flight use beyond their reservations between two reports
  of their use: with a provider that streams what it bills, a few events' worth; with one that thinks in silence, the
  rest of a request's clamp. Where a request sets no bound on its output and more is left than the model is known to be
  able to write, there is no clamp, and its rest is what the model can write.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from budget import windows
from budget.scopes import NANO_USD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from budget.history import Estimate
    from budget.overrun import Pace
    from budget.prices import Rates
    from budget.scopes import Limit, Unit
    from budget.tokens import Tokens, Weights

#: How long a client is told to wait for requests under way that hold what it needs.
BUSY_S = 2
#: A limit whose window ends within this time is worth waiting for.
SOON_S = 60
#: With less than this left for the answer, a request is not worth sending; OpenAI refuses a lower bound on output
#: (Responses API: "Expected a value >= 16").
LEAST_OUTPUT = 16
#: Where a request sets no bound on its output, one above what its model can write is refused by OpenAI ("max_tokens is
#: too large"), so that none is set but what the model is known to write. Every current model writes this,
WRITABLE = 16_384
#: and the reasoning ones this much (OpenAI's model pages: 100,000 for the o series, 128,000 since GPT-5).
WRITABLE_BY_REASONING = 100_000
#: So says a refusal that the pace is in the way, and no limit.
AHEAD = "is ahead of its pace"
_REASONING = re.compile(r"(?:o1(?!-mini|-preview)|o[34]|gpt-[5-9])(?![0-9a-z])(?!.*(?:chat|search|image|audio|live))")


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where a limit stands now, in its own unit: weighted tokens, or nano-USD."""

    limit: Limit
    used: int
    """Settled within the window."""
    reserved: int = 0
    """Held for the requests in flight: for each the larger of what it reserved and what it used so far. Weights are
    applied to each by itself, and round up, so that this is never less than what they come to in one sum."""
    ends_at: float | None = None
    """When the window ends, in seconds since the epoch."""
    pace: Pace | None = None
    """What of it may be used by when, in the limit's unit."""

    @property
    def left(self) -> int:
        """What can still be reserved."""
        return self.limit.amount - self.used - self.reserved


@dataclass(frozen=True, kw_only=True, slots=True)
class Admit:
    """It may leave, once its reservation is durable."""

    reserve: tuple[int, ...]
    """What is held for it under each limit, in the order and the units of the standings."""
    max_tokens: int | None
    """The bound on its output that must be set; None: its own, or none, is low enough."""


Why: TypeAlias = Literal["spent", "too_big", "pace", "busy", "no_price"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refuse:
    """It may not leave."""

    why: Why
    """spent: the limit is used up. too_big: what is left does not do for this request. pace: more of it is used than
    may be by now. busy: what is left is held for others that are under way. no_price: the limit is in USD, and what the
    model costs is not known."""
    standing: Standing
    need: int
    """What the request needs at least, in the limit's unit."""
    retry_after_s: int | None
    """Waiting so many seconds helps (429); None: it does not (403)."""
    agent: str
    model: str | None
    opens_at: float | None = None
    """When it is over by itself, in seconds since the epoch; None: not known, or not before somebody opens it."""
    paced: int | None = None
    """What may be used by now, in the limit's unit."""

    @property
    def text(self) -> str:
        """For the agent and for people: which budget, how much, when it begins anew, and what opens it."""
        limit, used = self.standing.limit, self.standing.used
        budget = _name(limit, self.agent)
        match self.why:
            case "no_price":
                model = re.sub(r"[^A-Za-z0-9._:/@-]", "?", (self.model or "")[:80]) or "(none named)"
                return (
                    f"{budget} is in USD, and no price is known of the model {model}, so that what it spends cannot be "
                    "counted. Use a model whose price is known, or have the budget set in tokens: "
                    f"{_command(limit, self.agent)}."
                )
            case "busy":
                reserved = _shown(self.standing.reserved, limit.unit)
                return (
                    f"{budget} has nothing free at the moment: {_spent(limit, used)}, and {reserved} held for requests "
                    f"under way. Try again in {self.retry_after_s} s."
                )
            case "pace":
                return self._of_pace(budget)
            case "spent":
                said = f"{budget} is used up: {_spent(limit, used)}."
            case "too_big":
                need = _shown(self.need, limit.unit)
                said = (
                    f"{budget} has too little left for this request, which needs about {need}: {_spent(limit, used)}."
                )
        return f"{said} {_way_out(self.standing, self.agent)}"

    def _of_pace(self, budget: str) -> str:
        limit, standing = self.standing.limit, self.standing
        said = f"{budget} {AHEAD}, further than work under way may be: {_spent(limit, standing.used)}"
        if self.paced is not None and standing.used < self.paced:
            said += f" and {_shown(standing.reserved, limit.unit)} held for requests under way"
        said += f", where its pace allows {_shown(max(0, self.paced or 0), limit.unit)} by now."
        if self.retry_after_s is not None:
            return f"{said} Try again in {self.retry_after_s} s."
        more = f" It allows more from {_moment(self.opens_at)} on." if self.opens_at is not None else ""
        return f"{said}{more} Opened before that by {_authorize(limit, self.agent)}."


def decide(
    standings: Sequence[Standing],
    estimate: Estimate,
    *,
    max_tokens: int | None,
    weights: Weights,
    rates: Rates | None,
    now: float,
    agent: str,
    model: str | None,
) -> Admit | Refuse:
    """Whether a request fits under every limit that governs it, and what is then held for it.

    What is expected of it is reserved. Where less than that is left and nothing else is reserved, all that is left is
    reserved, so that a small budget can be used to its end; the request's input and `LEAST_OUTPUT` must fit all the
    same. Without any limit it is admitted.

    Args:
        standings: of all limits that govern the request.
        estimate: what it is expected to use.
        max_tokens: the bound on output that it sets itself.
        weights: of tokens under limits in tokens.
        rates: of tokens under limits in USD; None: no price is known.
        now: seconds since the epoch.
        agent: whose request it is.
        model: as it asks for it.
    """
    reserve: list[int] = []
    refusals: list[Refuse] = []
    bound: int | None = None
    answer = LEAST_OUTPUT if max_tokens is None else min(LEAST_OUTPUT, max_tokens)
    for standing in standings:
        limit = standing.limit
        why: Why | None = None
        paced = standing.pace.at(now) if standing.pace is not None else None
        reading = expected = need = 0
        factor, per = 0, 1
        if limit.unit == "usd" and rates is None:
            why = "no_price"
        else:
            reading = cost(estimate.input, limit.unit, weights, rates)
            factor, per = _output_factor(limit.unit, weights, rates)
            need = reading - (-answer * factor // per)
            expected = max(need, cost(estimate.expected, limit.unit, weights, rates))
            if standing.used >= limit.amount:
                why = "spent"
            elif need > limit.amount - standing.used:
                why = "too_big"
            elif paced is not None and standing.used >= paced:
                why = "pace"
            elif expected > standing.left and standing.reserved:
                why = "busy"
            elif paced is not None and standing.used + standing.reserved >= paced:
                why = "pace"
        if why is not None:
            refusals.append(
                Refuse(
                    why=why,
                    standing=standing,
                    need=need,
                    retry_after_s=_wait(why, standing, need, paced, now),
                    agent=agent,
                    model=model,
                    opens_at=_opens(why, standing, need, now),
                    paced=None if paced is None else math.floor(paced),
                )
            )
            continue
        reserve.append(min(expected, standing.left))
        if factor:
            room = (standing.left - reading) * per // factor
            bound = room if bound is None else min(bound, room)
    if refusals:
        # What helps is told only where it helps against all of them.
        return max(refusals, key=lambda refusal: (_or_never(refusal.retry_after_s), _or_never(refusal.opens_at)))
    most = writable(model) if max_tokens is None else max_tokens
    return Admit(reserve=tuple(reserve), max_tokens=bound if bound is not None and bound < most else None)


def writable(model: str | None) -> int:
    """How many tokens a model is known to be able to write in one response."""
    return WRITABLE_BY_REASONING if model is not None and _REASONING.match(model[:80]) else WRITABLE


def cost(tokens: Tokens, unit: Unit, weights: Weights, rates: Rates | None) -> int:
    """What tokens count against a limit in `unit`: weighted tokens, or nano-USD.

    Raises:
        ValueError: in USD without rates.
    """
    if unit == "tokens":
        return weights.weigh(tokens)
    if rates is None:
        raise ValueError("no price is known, so that nothing can be counted in USD")
    return rates.price(tokens)


def cut_text(standing: Standing, streaming: int, agent: str | None = None, *, midway: bool = True) -> str:
    """Why requests are ended in the middle, once a limit is reached: for agents and for people.

    Args:
        standing: the limit's.
        streaming: what the requests in flight used so far, in the limit's unit.
        agent: whose requests; needed for an allowance, which is one agent's.
        midway: a response is ended by it.
    """
    limit = standing.limit
    how = "was reached while this response was under way" if midway else "is used up"
    return f"{_name(limit, agent)} {how}: {_spent(limit, standing.used + streaming)}. {_way_out(standing, agent)}"


def _output_factor(unit: Unit, weights: Weights, rates: Rates | None) -> tuple[int, int]:
    """What a token of output counts at most, as a fraction: reasoning is output, too, and may count otherwise."""
    if unit == "tokens":
        return max(weights.output, weights.reasoning), 1000
    assert rates is not None
    return max(rates.output, rates.reasoning), 1_000_000


def _wait(why: Why, standing: Standing, need: int, paced: float | None, now: float) -> int | None:
    if why == "busy" or (why == "pace" and paced is not None and standing.used < paced):
        return BUSY_S
    opens = _opens(why, standing, need, now)
    if opens is None or opens - now > SOON_S:
        return None
    # The pace is passed a moment later than it is met.
    return math.floor(opens - now) + 1 if why == "pace" else max(1, math.ceil(opens - now))


def _opens(why: Why, standing: Standing, need: int, now: float) -> float | None:
    """When it is over by itself; None: not known, or never."""
    if why in ("busy", "no_price"):
        return None
    if why == "pace" and standing.pace is not None:
        passes = standing.pace.passes(standing.used, now)
        return passes if standing.ends_at is None else min(passes, standing.ends_at)
    return None if need > standing.limit.amount else standing.ends_at


def _or_never(found: float | None) -> float:
    return math.inf if found is None else found


def _number(amount: int, unit: Unit) -> str:
    if unit == "tokens":
        return f"{amount:,}"
    return f"{amount / NANO_USD:,.2f}" if amount >= NANO_USD // 100 else f"{amount / NANO_USD:.6f}"


def _shown(amount: int, unit: Unit) -> str:
    return f"{_number(amount, unit)} {'tokens' if unit == 'tokens' else 'USD'}"


def _spent(limit: Limit, used: int) -> str:
    """How much of how much, in which time."""
    if not limit.bounds:
        return f"{_shown(used, limit.unit)} used here"
    window = limit.window or ("launch" if limit.kind == "allowance" else None)
    per = f" per {windows.in_words(window)}" if window else ""
    return f"{_number(used, limit.unit)} of {_shown(limit.amount, limit.unit)}{per} used"


def _name(limit: Limit, agent: str | None) -> str:
    if not limit.bounds:
        return f"The window {windows.in_words(limit.window or '')} of {limit.scope}"
    if limit.kind == "pool":
        return f"The shared budget of {limit.scope}"
    if agent is None:
        return f"The budget by {limit.scope}"
    return f"The budget of {agent}" + ("" if limit.scope == f"agent:{agent}" else f" (by {limit.scope})")


def _way_out(standing: Standing, agent: str | None) -> str:
    command = _command(standing.limit, agent)
    if standing.ends_at is None:
        return f"Opened by {command}."
    return f"It begins anew at {_moment(standing.ends_at)}. Opened before that by {command}."


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _authorize(limit: Limit, agent: str | None) -> str:
    """What lets it be spent faster, or beyond."""
    scope = limit.scope if limit.kind == "pool" else f"agent:{agent or 'NAME'}"
    return f"`muster budget authorize {scope} AMOUNT`"


def _command(limit: Limit, agent: str | None) -> str:
    """What opens it. The allowance of one agent is raised by one of its own, except what was set at its launch."""
    if limit.scope.startswith("launch:"):
        return f"`muster launch {agent or 'NAME'} --budget TOKENS`, once it is stopped"
    if windows.is_from_moment(limit.window):
        # A share of a provider's window, of which nobody sets tokens.
        return _authorize(limit, agent)
    scope = limit.scope if limit.kind == "pool" else f"agent:{agent or 'NAME'}"
    window = f" --window {limit.window}" if limit.window else ""
    return f"`muster budget set {scope} LIMIT{window}`"
