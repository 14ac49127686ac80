"""The admission of requests: whether a request may be sent under every limit that governs it. Pure.

**For every limit, the usage plus the worst cases of all open requests never exceeds the limit.** The worst case of a
request is its input bound (budget.limits.input_bound) plus the `max_tokens` that is actually sent. Each input token
counts as the most expensive applicable kind. The usage of earlier requests never admits a later one.

- A request whose worst case fits is sent unchanged.
- A request that would fit with fewer open requests waits (budget.limits.waiting_requests).
- If no other request is open under a limit, `max_tokens` is lowered to what is left.
- An unsure bound (from earlier observations) applies only if no other request is open. It reserves all that is left,
  so that no other request can start.
- One exception: a request whose counted input fits at the weight of cache reads, but not at full weight, is sent as
  well, also alone. It exceeds the limit by at most its input.
- A request that can never fit is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from budget.amounts import CountedUnit
from budget.costs.request_usage_from_history import LONGEST_ANSWER
from budget.costs.token_prices import Rates
from budget.limits.input_bound import Bound
from budget.limits.scopes import NANO_USD, Limit
from budget.scope_names import shown_scope
from budget.tokens import Weights
from budget.windows import window_boundaries
from budget.windows.overrun_allowance import PaceAllowance

#: Seconds until a client should retry while open requests hold what it needs.
BUSY_S = 2
#: Seconds within which the end of a limit's window is worth a retry.
SOON_S = 60
#: The minimum output tokens for which a request is sent; OpenAI refuses a lower bound on output (Responses API:
#: "Expected a value >= 16").
LEAST_OUTPUT = 16
#: The output tokens from which a request that fits no sure bound is sent by an unsure one.
WORTH_OUTPUT = 4_096
#: The bound on output for a request that sets none. OpenAI refuses a bound above what the model can write ("max_tokens
#: is too large"). Every current model can write this many tokens.
WRITABLE = 16_384
#: The same bound for reasoning models (OpenAI's model pages: 100,000 for the o series, 128,000 since GPT-5).
WRITABLE_BY_REASONING = 100_000
#: The phrase of a refusal that the pace causes and no limit does.
AHEAD = "is ahead of its pace"
_REASONING = re.compile(r"(?:o1(?!-mini|-preview)|o[34]|gpt-[5-9])(?![0-9a-z])(?!.*(?:chat|search|image|audio|live))")


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitState:
    """The current state of a limit, in its own unit: weighted tokens or nano-USD."""

    limit: Limit
    used: int
    """The settled usage within the window."""
    reserved: int = 0
    """The worst cases of the open requests. Each is weighted and rounded up by itself, so the sum is never too low."""
    open: int = 0
    """The number of open requests."""
    likely: int = 0
    """The expected usage of the open requests. It counts for the pace, but for no limit."""
    ends_at: float | None = None
    """The end of the window, in seconds since the epoch."""
    pace: PaceAllowance | None = None
    """The amount that the pace allows over time, in the limit's unit."""

    @property
    def left(self) -> int:
        """The amount that can still be reserved."""
        return self.limit.amount - self.used - self.reserved


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """The most that a request may use."""

    bounds: tuple[Bound, ...]
    """Upper bounds on the input, the surest first; at least one is sure."""
    counted: int | None = None
    """The input tokens by the provider's own count, without a margin."""
    counting: bool = False
    """Whether a closer bound may still arrive."""
    max_tokens: int | None = None
    """The bound on output that the request sets, over all choices; None if it sets none."""
    choices: int = 1
    """The number of answers that the request asks for."""
    caches: bool = True
    """Whether some of the input may be read from a cache or written into one."""
    searches: int = 0
    """The maximum number of web searches by the provider."""

    @property
    def sure(self) -> Bound:
        """The lowest sure bound."""
        if len(self.bounds) == 1:
            return self.bounds[0]
        return min((bound for bound in self.bounds if bound.is_sure), key=lambda bound: bound.tokens)

    @property
    def unsure(self) -> Bound | None:
        """The lowest unsure bound if it is below the sure one, or None."""
        if len(self.bounds) == 1:
            return None
        least = min((bound for bound in self.bounds if not bound.is_sure), key=lambda each: each.tokens, default=None)
        return least if least is not None and least.tokens < self.sure.tokens else None


#: Returns the rates of a request with this many input tokens, or None if no price is known.
RatesOf: TypeAlias = "Callable[[int], Rates | None]"
#: The bound that admits a request. sure: a sure bound. alone: an unsure bound. cached: the exception for cache reads.
How: TypeAlias = Literal["sure", "alone", "cached"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The reservation of a request under one limit, in the limit's unit."""

    held: int
    """The worst case, or all that was left if the request runs alone."""
    reading: int
    """The part of the input."""
    how: How = "sure"
    excess: int = 0
    """The amount by which the input may exceed the limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Admit:
    """The request may be sent once its reservation is durable."""

    shares: tuple[Share, ...]
    """The reservation under each limit, in the order of the standings."""
    max_tokens: int | None
    """The bound on output to set; None if the request needs no other bound than its own."""
    output: int
    """The maximum number of output tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestWait:
    """The request would fit with fewer open requests, or may fit once its input is counted."""

    on: tuple[int, ...]
    """The indexes of the limits that it waits for."""
    refusal: RefuseRequest
    """The refusal to use once the request has waited too long."""


Why: TypeAlias = Literal["spent", "too_big", "pace", "busy", "no_price"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RefuseRequest:
    """The request may not be sent."""

    why: Why
    """spent: the limit is used up. too_big: the request cannot fit into what is left. pace: the usage is ahead of the
    pace. busy: open requests hold what is left. no_price: the limit is in USD, and the price of the model is
    unknown."""
    standing: LimitState
    need: int
    """The minimum that the request needs, in the limit's unit."""
    retry_after_s: int | None
    """Seconds after which a retry helps (429); None if a retry does not help (403)."""
    agent: str
    model: str | None
    opens_at: float | None = None
    """When the refusal ends by itself, in seconds since the epoch; None if this is unknown or a person must act."""
    paced: int | None = None
    """The amount that the pace allows by now, in the limit's unit."""
    bound: Bound | None = None
    """The input bound that the decision used."""

    @property
    def text(self) -> str:
        """The message for the agent and for people: which budget, how much, when it resets, and what raises it."""
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
                said = f"{budget} has too little left for this request, which may need {need}"
                if self.bound is not None:
                    said += f" (input of at most {self.bound.tokens:,} tokens, {_BY[self.bound.by]})"
                said += f": {_spent(limit, used)}."
        return f"{said} {_way_out(self.standing, self.agent)}"

    def _of_pace(self, budget: str) -> str:
        limit, standing = self.standing.limit, self.standing
        said = f"{budget} {AHEAD}, further than work under way may be: {_spent(limit, standing.used)}"
        if self.paced is not None and standing.used < self.paced:
            said += f" and about {_shown(standing.likely, limit.unit)} for requests under way"
        said += f", where its pace allows {_shown(max(0, self.paced or 0), limit.unit)} so far."
        if self.retry_after_s is not None:
            return f"{said} Try again in {self.retry_after_s} s."
        more = f" It allows more from {_moment(self.opens_at)} on." if self.opens_at is not None else ""
        return f"{said}{more} Opened before that by {_authorize(limit, self.agent)}."


_BY = {
    "bytes": "by the bytes of its body",
    "window": "as its model can read that much, and its body does not say how much it refers to",
    "count": "by the provider's own count",
    "ratio": "by what such requests had",
}


def decide(
    standings: Sequence[LimitState],
    need: Need,
    *,
    weights: Weights,
    rates: RatesOf,
    now: float,
    agent: str,
    model: str | None,
) -> Admit | RequestWait | RefuseRequest:
    """Decide whether a request fits under every limit that governs it, and what to reserve for it.

    Args:
        standings: the states of all limits that govern the request.
        need: the most that the request may use.
        weights: the weights of tokens under limits in tokens.
        rates: the rates of tokens under limits in USD.
        now: seconds since the epoch.
        agent: the agent that makes the request.
        model: the model that the request names.
    """
    return _Decision(standings, need, weights, rates, now, agent, model).made()


class _Decision:
    def __init__(
        self,
        standings: Sequence[LimitState],
        need: Need,
        weights: Weights,
        rates: RatesOf,
        now: float,
        agent: str,
        model: str | None,
    ) -> None:
        self._standings = standings
        self._need = need
        self._weights = weights
        self._rates = rates
        self._now = now
        self._agent = agent
        self._model = model
        self._sure, self._unsure = need.sure, need.unsure
        self._least = LEAST_OUTPUT if need.max_tokens is None else min(LEAST_OUTPUT, need.max_tokens)

    def made(self) -> Admit | RequestWait | RefuseRequest:
        return self._as_it_is() or self._near_a_limit()

    def _as_it_is(self) -> Admit | None:
        """Admit the request unchanged if its worst case fits under every limit: the usual case, far from the limits."""
        declared = self._need.max_tokens
        output = LONGEST_ANSWER * self._need.choices if declared is None else declared
        shares = []
        by_unit: dict[CountedUnit, Share] = {}
        for standing in self._standings:
            if standing.limit.unit == "usd" and self._rates(0) is None:
                return None
            share = by_unit.get(standing.limit.unit)
            if share is None:
                # The share is the same for all limits in one unit.
                share = by_unit[standing.limit.unit] = self._share(standing, "sure", output)
            if standing.used >= standing.limit.amount or share.held > standing.left:
                return None
            if standing.pace is not None and self._paced(standing) is not None:
                return None
            shares.append(share)
        return Admit(shares=tuple(shares), max_tokens=None, output=output)

    def _near_a_limit(self) -> Admit | RequestWait | RefuseRequest:
        refusals = [refusal for standing in self._standings if (refusal := self._refusal(standing)) is not None]
        if refusals:
            # Report a time only if it ends all refusals.
            return max(refusals, key=lambda refusal: (_or_never(refusal.retry_after_s), _or_never(refusal.opens_at)))
        if self._need.max_tokens is not None:
            return self._within(self._need.max_tokens)
        return self._within(writable(self._model) * self._need.choices)

    def _within(self, most: int) -> Admit | RequestWait:
        """Admit the request with `most` tokens of output, and with fewer only if no other request is open."""
        output = most
        ways: list[How] = []
        waits: list[int] = []
        for place, standing in enumerate(self._standings):
            how: How = "sure"
            if not standing.open:
                how = self._way(standing, standing.left, most)
                room = self._room(standing, how, standing.left)
                output = min(output, room)
                if self._need.counting and (how != "sure" or room < most):
                    # With a closer bound, the request may not need to run alone or with less output.
                    waits.append(place)
            ways.append(how)
        shares = [self._share(standing, how, output) for standing, how in zip(self._standings, ways, strict=True)]
        waits += [
            place
            for place, (standing, share) in enumerate(zip(self._standings, shares, strict=True))
            if share.how == "sure" and share.held > standing.left and place not in waits
        ]
        if waits:
            return RequestWait(on=tuple(waits), refusal=self._refuse("busy", self._standings[waits[0]], 0))
        declared = self._need.max_tokens
        return Admit(shares=tuple(shares), max_tokens=None if output == declared else output, output=output)

    # --- one limit ----------------------------------------------------------------------------------------------------

    def _way(self, standing: LimitState, left: int, most: int) -> How:
        """Return the surest bound that leaves room for an answer, if no other request is open."""
        worth = min(most, WORTH_OUTPUT)
        ways: list[How] = ["sure"]
        if self._unsure is not None:
            ways.append("alone")
        if self._need.counted is not None and self._need.caches:
            ways.append("cached")
        for least in (worth, self._least):
            for how in ways:
                if self._room(standing, how, left) >= least and (how != "cached" or least == worth):
                    return how
        return "sure"

    def _room(self, standing: LimitState, how: How, left: int) -> int:
        """Return how many tokens of output fit."""
        factor, per = self._output_factor(standing.limit.unit)
        room = left - self._reading(standing, how)
        if room < 0:
            return -1
        return room * per // factor if factor else _ENDLESS

    def _share(self, standing: LimitState, how: How, output: int) -> Share:
        reading = self._reading(standing, how)
        if how == "sure":
            return Share(held=reading + self._writing(standing, output), reading=reading)
        excess = max(0, self._full(standing) - reading) if how == "cached" else 0
        return Share(held=max(0, standing.left), reading=reading, how=how, excess=excess)

    def _reading(self, standing: LimitState, how: How) -> int:
        """Return the most that the input counts."""
        if how == "cached":
            assert self._need.counted is not None
            return self._input(standing, self._need.counted, cached=True)
        bound = self._unsure if how == "alone" else self._sure
        assert bound is not None
        return self._input(standing, bound.tokens)

    def _full(self, standing: LimitState) -> int:
        """Return what the input counts if none of it is cached."""
        closest = self._unsure or self._sure
        return self._input(standing, closest.tokens)

    def _input(self, standing: LimitState, tokens: int, *, cached: bool = False) -> int:
        if standing.limit.unit == "tokens":
            weights = self._weights
            kinds = [weights.input, weights.cache_read, weights.cache_write]
            each = weights.cache_read if cached else max(kinds if self._need.caches else kinds[:1])
            return -(-tokens * each // 1000)
        rates = self._rates(tokens)
        assert rates is not None
        kinds = [rates.input, rates.cache_read, rates.cache_write, rates.cache_write_1h or 0]
        each = rates.cache_read if cached else max(kinds if self._need.caches else kinds[:1])
        return -(-(tokens * each + self._need.searches * rates.web_search) // 1_000_000)

    def _writing(self, standing: LimitState, output: int) -> int:
        factor, per = self._output_factor(standing.limit.unit)
        return -(-output * factor // per)

    def _output_factor(self, unit: CountedUnit) -> tuple[int, int]:
        """Return the most that an output token counts, as a fraction. Reasoning tokens may have another weight."""
        if unit == "tokens":
            return max(self._weights.output, self._weights.reasoning), 1000
        rates = self._rates(self._sure.tokens)
        assert rates is not None
        return max(rates.output, rates.reasoning), 1_000_000

    # --- refusals -----------------------------------------------------------------------------------------------------

    def _refusal(self, standing: LimitState) -> RefuseRequest | None:
        limit = standing.limit
        if limit.unit == "usd" and self._rates(self._sure.tokens) is None:
            return self._refuse("no_price", standing, 0)
        most = writable(self._model) if self._need.max_tokens is None else self._need.max_tokens
        # Assume that no other request is open.
        empty = replace(standing, reserved=0, open=0)
        way = self._way(empty, empty.left, most)
        need = self._reading(standing, way) + self._writing(standing, self._least)
        if standing.used >= limit.amount:
            return self._refuse("spent", standing, need)
        if self._room(empty, way, empty.left) < self._least:
            return None if self._need.counting else self._refuse("too_big", standing, need)
        if (paced := self._paced(standing)) is not None:
            return self._refuse("pace", standing, need, paced)
        return None

    def _paced(self, standing: LimitState) -> float | None:
        """Return what the pace allows by now if the usage and the open requests have reached it, or None."""
        paced = standing.pace.at(self._now) if standing.pace is not None else None
        return paced if paced is not None and standing.used + standing.likely >= paced else None

    def _refuse(self, why: Why, standing: LimitState, need: int, paced: float | None = None) -> RefuseRequest:
        return RefuseRequest(
            why=why,
            standing=standing,
            need=need,
            retry_after_s=_wait(why, standing, need, paced, self._now),
            agent=self._agent,
            model=self._model,
            opens_at=_opens(why, standing, need, self._now),
            paced=None if paced is None else math.floor(paced),
            bound=(self._unsure or self._sure) if why == "too_big" else None,
        )


#: The room for output tokens that count nothing.
_ENDLESS = 10**12


def writable(model: str | None) -> int:
    """Return the number of tokens that a model can certainly write in one response."""
    return WRITABLE_BY_REASONING if model is not None and _REASONING.match(model[:80]) else WRITABLE


def cut_text(standing: LimitState, streaming: int, agent: str | None = None, *, midway: bool = True) -> str:
    """Return the message for agents and people when requests end because a limit is reached.

    Args:
        standing: the state of the limit.
        streaming: the usage of the open requests so far, in the limit's unit.
        agent: the agent of the requests; required for an allowance.
        midway: whether a response is interrupted.
    """
    limit = standing.limit
    how = "was reached while this response was under way" if midway else "is used up"
    return f"{_name(limit, agent)} {how}: {_spent(limit, standing.used + streaming)}. {_way_out(standing, agent)}"


def excess_text(standing: LimitState, share: Share, agent: str) -> str:
    """Return the message that a request runs alone and may exceed a limit by its input."""
    limit = standing.limit
    return (
        f"A request of {agent} fits into {_name(limit, agent)[0].lower()}{_name(limit, agent)[1:]} only if most of its "
        f"input is read from the cache: {_spent(limit, standing.used)}. It runs alone, and may pass the limit by "
        f"{_shown(share.excess, limit.unit)}."
    )


def _wait(why: Why, standing: LimitState, need: int, paced: float | None, now: float) -> int | None:
    if why == "busy" or (why == "pace" and paced is not None and standing.used < paced):
        return BUSY_S
    opens = _opens(why, standing, need, now)
    if opens is None or opens - now > SOON_S:
        return None
    # The pace allows more only after the moment at which it reaches the usage.
    return math.floor(opens - now) + 1 if why == "pace" else max(1, math.ceil(opens - now))


def _opens(why: Why, standing: LimitState, need: int, now: float) -> float | None:
    """Return when the refusal ends by itself, or None if this is unknown or never happens."""
    if why in ("busy", "no_price"):
        return None
    if why == "pace" and standing.pace is not None:
        passes = standing.pace.passes(standing.used, now)
        return passes if standing.ends_at is None else min(passes, standing.ends_at)
    return None if need > standing.limit.amount else standing.ends_at


def _or_never(found: float | None) -> float:
    return math.inf if found is None else found


def _number(amount: int, unit: CountedUnit) -> str:
    if unit == "tokens":
        return f"{amount:,}"
    return f"{amount / NANO_USD:,.2f}" if amount >= NANO_USD // 100 else f"{amount / NANO_USD:.6f}"


def _shown(amount: int, unit: CountedUnit) -> str:
    return f"{_number(amount, unit)} {'tokens' if unit == 'tokens' else 'USD'}"


def _spent(limit: Limit, used: int) -> str:
    """Return how much of which amount and window is used."""
    if not limit.bounds:
        return f"{_shown(used, limit.unit)} used here"
    window = limit.window or ("launch" if limit.kind == "allowance" else None)
    per = f" per {window_boundaries.in_words(window)}" if window else ""
    return f"{_number(used, limit.unit)} of {_shown(limit.amount, limit.unit)}{per} used"


def _name(limit: Limit, agent: str | None) -> str:
    if not limit.bounds:
        return f"The window {window_boundaries.in_words(limit.window or '')} of {shown_scope(limit.scope)}"
    if limit.kind == "pool":
        return f"The shared budget of {shown_scope(limit.scope)}"
    if agent is None:
        return f"The budget by {shown_scope(limit.scope)}"
    return f"The budget of {agent}" + ("" if limit.scope == f"agent:{agent}" else f" (by {shown_scope(limit.scope)})")


def _way_out(standing: LimitState, agent: str | None) -> str:
    command = _command(standing.limit, agent)
    if standing.ends_at is None:
        return f"Opened by {command}."
    return f"It begins anew at {_moment(standing.ends_at)}. Opened before that by {command}."


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _authorize(limit: Limit, agent: str | None) -> str:
    """Return the command that allows spending faster than the pace, or beyond the limit."""
    scope = limit.scope if limit.kind == "pool" else f"agent:{agent or 'NAME'}"
    return f"`muster budget authorize {scope} AMOUNT`"


def _command(limit: Limit, agent: str | None) -> str:
    """Return the command that raises the limit.

    An agent's own allowance raises any allowance except for one that was set at its launch.
    """
    if limit.scope.startswith("launch:"):
        return f"`muster launch {agent or 'NAME'} --budget TOKENS`, once it is stopped"
    if window_boundaries.is_from_moment(limit.window):
        # A share of a provider's window is not set in tokens.
        return _authorize(limit, agent)
    scope = limit.scope if limit.kind == "pool" else f"agent:{agent or 'NAME'}"
    window = f" --window {limit.window}" if limit.window else ""
    return f"`muster budget set {scope} LIMIT{window}`"
