"""An admitted request, as the proxy holds it (egress.limits.admission_interface.AdmittedRequest)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

import structlog

from budget.costs.request_usage_from_history import Estimate
from budget.costs.token_prices import Rates, price, rates
from budget.limits.request_admission import Share
from budget.tokens import Tokens, Weights
from egress.ledger import table_rows
from egress.ledger.table_rows import Reservation
from egress.limits.admission_interface import AdmissionRequest, Cut, Ending
from egress.limits.agent_counter_index import AgentCounters
from egress.limits.limit_counters import CounterHold, LimitCounter, fine, weight
from egress.limits.request_charge import at_an_end, has_input, next_step

_log = structlog.get_logger(__name__)

_NOTHING: Final = Tokens()
#: Ten thousand US dollars: the highest price recorded for a request, regardless of the provider's bill. It keeps the
#: ledger's sums within 64 bits.
MOST_NANO_USD: Final = 10**13
#: The factor by which the estimate of a text's tokens may be too high (egress.usage.text_token_estimate).
BY_FAR: Final = 1.5


def dearest_input(rates: Rates, tokens: int) -> int:
    """Return the highest cost of this many input tokens, in nano-USD: plain, read from a cache, or written to a
    long-lived one."""
    each = max(rates.input, rates.cache_read, rates.cache_write, rates.cache_write_1h or 0)
    return -(-tokens * each // 1_000_000)


class Gate(Protocol):
    """Admission control, as far as a running request needs it."""

    def settle(self, lease: GateLease, ending: Ending) -> asyncio.Future[int]: ...

    def passed(self, lease: GateLease, counter: LimitCounter) -> None: ...

    def told(self, lease: GateLease) -> None: ...

    def freed(self) -> None: ...


class GateLease:
    """Counts what its request uses on every counter that it draws on.

    Args:
        gate: settles the request, and is notified of passed limits.
        way: the counters of its agent over its account.
        asked: the admission request.
        reservation: its row in the ledger.
        estimate: its expected usage.
        bound: its maximum usage, in the kinds ``input`` and ``output``.
        rates: the prices of its tokens.
        weights: the weights of tokens.
        max_tokens: the bound on output to set in the request.
        near: whether little is left of a limit.
        began: its start, by the monotonic clock.
    """

    __slots__ = (
        "_acts",
        "_gate",
        "_money",
        "_settling",
        "_weighed",
        "_weights",
        "asked",
        "began",
        "bound",
        "cut",
        "estimate",
        "max_tokens",
        "near",
        "rates",
        "reservation",
        "so_far",
        "way",
    )

    def __init__(
        self,
        gate: Gate,
        *,
        way: AgentCounters,
        asked: AdmissionRequest,
        reservation: Reservation,
        estimate: Estimate,
        bound: Tokens,
        rates: Rates | None,
        weights: Weights,
        max_tokens: int | None,
        near: bool,
        began: float,
    ) -> None:
        self._gate = gate
        self.way = way
        self.asked = asked
        self.reservation = reservation
        self.estimate = estimate
        self.bound = bound
        self.rates = rates
        self._weights = weights
        self.max_tokens = max_tokens
        self.near = near
        self.began = began
        self.cut: Cut | None = None
        self.so_far = _NOTHING
        self._weighed: list[CounterHold] = []
        self._money: list[CounterHold] = []
        self._acts: list[Callable[[Cut], None]] = []
        self._settling: asyncio.Future[int] | None = None

    @property
    def id(self) -> str:
        return self.reservation.id

    @property
    def agent(self) -> str:
        return self.asked.agent

    @property
    def holds(self) -> list[CounterHold]:
        return self._weighed + self._money

    def hold(self, counter: LimitCounter, share: Share | None = None) -> None:
        """Hold its share on a counter, and count there from now on.

        Its input counts from the start: once the request has left, the provider bills it.

        Args:
            counter: a counter that it draws on.
            share: the share from the admission decision; None: the limit is new, and the worst case is held.
        """
        per = fine(counter.limit)
        weighed = counter.limit.unit == "tokens"
        if share is None:
            reading = self._reading(weighed)
            hold = CounterHold(counter, reading + self._writing(weighed), reading=reading, likely=0)
        else:
            expected = self._expected(weighed)
            hold = CounterHold(
                counter,
                share.held * per,
                reading=share.reading * per,
                likely=min(share.held * per, expected),
                grace=share.excess * per,
            )
        (self._weighed if weighed else self._money).append(hold)
        hold.count(hold.reading if self.so_far is _NOTHING else self._used(hold, weighed))

    def _expected(self, weighed: bool) -> int:
        """Return its expected usage, in counted parts."""
        if weighed:
            return weight(self.estimate.expected, self._weights)
        return 0 if self.rates is None else self.rates.price(self.estimate.expected)

    def _reading(self, weighed: bool) -> int:
        """Return the maximum that its input counts for, in counted parts."""
        if weighed:
            weights = self._weights
            return self.bound.input * max(weights.input, weights.cache_read, weights.cache_write)
        return 0 if self.rates is None else dearest_input(self.rates, self.bound.input)

    def _writing(self, weighed: bool) -> int:
        """Return the maximum that its output counts for, in counted parts."""
        if weighed:
            return self.bound.output * max(self._weights.output, self._weights.reasoning)
        if self.rates is None:
            return 0
        return -(-self.bound.output * max(self.rates.output, self.rates.reasoning) // 1_000_000)

    def _used(self, hold: CounterHold, weighed: bool) -> int:
        used = self._worth(weighed)
        return used if has_input(self.so_far) else used + hold.reading

    def _worth(self, weighed: bool) -> int:
        """Return what its usage so far counts for, in counted parts."""
        so_far = self._within_bound(self.so_far)
        if weighed:
            return weight(so_far, self._weights)
        return 0 if self.rates is None else self.rates.price(so_far)

    def _within_bound(self, so_far: Tokens) -> Tokens:
        """Clamp the output to its bound if it exceeds the bound only slightly. Stream counts err on the high side, and
        providers respect the bound on output. A large excess means that the provider does not respect it."""
        written, most = so_far.output + so_far.reasoning, self.bound.output
        if not most < written <= most * BY_FAR:
            return so_far
        return replace(so_far, output=max(0, most - so_far.reasoning))

    def _told(self, so_far: Tokens) -> bool:
        """Replace the bound of its input by the reported input, and return whether it holds less now."""
        read = Tokens(input=so_far.input, cache_read=so_far.cache_read, cache_write=so_far.cache_write)
        asked = self.asked
        self.rates = self.rates and (
            rates(asked.provider, asked.model, self.reservation.started_at, input_tokens=read.all_input) or self.rates
        )
        less = [hold.lower(weight(read, self._weights) + self._writing(True)) for hold in self._weighed]
        if self.rates is not None:
            # The provider does not report here how long it caches the input, so the price assumes the longest time.
            told = self.rates.price(read, cache_write_1h=read.cache_write)
            less += [hold.lower(told + self._writing(False)) for hold in self._money]
        return any(less)

    def draws_on(self, counter: LimitCounter) -> bool:
        return any(hold.counter is counter for hold in self.holds)

    def let_go(self) -> None:
        """Release all its holds."""
        for hold in self.holds:
            hold.release()
        self._weighed.clear()
        self._money.clear()

    def end(self, cut: Cut) -> bool:
        """Make the request end, and return whether this is its first cut."""
        if self.cut is not None or self._settling is not None:
            return False
        self.cut = cut
        acts, self._acts = self._acts, []
        for act in acts:
            act(cut)
        return True

    def on_cut(self, act: Callable[[Cut], None]) -> None:
        if self.cut is not None:
            act(self.cut)
        else:
            self._acts.append(act)

    def progress(self, so_far: Tokens) -> None:
        if so_far is self.so_far or self._settling is not None:
            return
        first = not has_input(self.so_far) and has_input(so_far)
        self.so_far = so_far
        # If the provider's tools make it read the input again, the first reported input is incomplete.
        less = first and not self.asked.contents.rereads and self._told(so_far)
        read = has_input(so_far)
        for weighed, holds in ((True, self._weighed), (False, self._money)):
            used = self._worth(weighed) if holds else 0
            for hold in holds:
                if hold.count(used if read else used + hold.reading):
                    self._gate.passed(self, hold.counter)
        if less:
            self._gate.freed()

    def told(self, so_far: Tokens) -> int:
        # If the provider's tools make it read the input again, more may be read: the input's bound stays.
        if self._settling is None and not self.asked.contents.rereads:
            tokens = table_rows.bounded(at_an_end(so_far, self.bound))
            self.reservation = self.reservation._replace(
                input=tokens.input,
                output=tokens.output,
                cache_read=tokens.cache_read,
                cache_write=tokens.cache_write,
                reasoning=tokens.reasoning,
                nano_usd=None if self.rates is None else min(self.rates.price(tokens), MOST_NANO_USD),
            )
            self._gate.told(self)
        return next_step(so_far)

    async def settle(self, ending: Ending) -> None:
        if self._settling is None:
            self._acts.clear()
            self._settling = self._gate.settle(self, ending)
            await self._settling

    def price(self, model: str | None, tokens: Tokens, now: float, raw: Mapping[str, Any] | None) -> int | None:
        """Return its cost in nano-USD, by the model that answered or else by the requested model; None if no price is
        known."""
        try:
            for name in dict.fromkeys((model, self.reservation.model_asked)):
                found = price(self.asked.provider, name, tokens, now, raw)
                if found is not None:
                    return min(found, MOST_NANO_USD)
        except Exception:
            # A malformed bill must not prevent the settlement of what was used.
            _log.exception("price_failed", model=model)
        return None
