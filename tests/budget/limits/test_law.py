"""For every limit, what is used and the worst cases of all open requests never pass it, in whatever order they come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from budget.costs.token_prices import Rates
from budget.limits.input_bound import Bound
from budget.limits.request_admission import Admit, LimitState, Need, RefuseRequest, Share, decide
from budget.limits.scopes import NANO_USD, Limit, LimitKind
from budget.limits.waiting_requests import Stays, WaitingLine, WaitingRequest
from budget.tokens import Tokens, Weights
from tests import soak

WEIGHTS = Weights()
RATES = Rates(
    input=3 * NANO_USD,
    output=15 * NANO_USD,
    cache_read=NANO_USD * 3 // 10,
    cache_write=NANO_USD * 15 // 4,
    reasoning=15 * NANO_USD,
)


@dataclass
class Counter:
    """One limit, as a gate counts it."""

    limit: Limit
    used: int = 0
    held: int = 0
    open: int = 0
    ceiling: int = 0
    """What was reached already when the limit was lowered, and what one exception may come to."""


@dataclass(eq=False)
class Request:
    """What it is, which the law does not know, and what the law is told."""

    draws: tuple[int, ...]
    input: int
    cached: int
    output: int
    max_tokens: int | None
    body_bytes: int
    counts: bool
    """Its provider counts."""
    guess: int | None
    """Where it does not, what such requests had: it may be wrong."""
    need: Need
    place: WaitingRequest[Request] | None = None
    waits_on: frozenset[int] = frozenset()
    sent: int = 0
    holds: dict[int, int] = field(default_factory=dict)
    shares: dict[int, Share] = field(default_factory=dict)
    told: bool = False

    @property
    def used(self) -> Tokens:
        return Tokens(input=self.input, cache_read=self.cached, output=min(self.output, self.sent))


class Law(RuleBasedStateMachine):
    """Requests of several agents that draw on several limits in two units."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[Counter] = []
        self.line: WaitingLine[Request] = WaitingLine()
        self.open: list[Request] = []
        self.excused: set[int] = set()
        """Limits whose bound on an input was no sure one."""

    # --- what happens -------------------------------------------------------------------------------------------------

    @initialize(amounts=st.lists(st.integers(1, 100_000), min_size=4, max_size=4), usd=st.integers(10**6, 10**9))
    def begin(self, amounts: list[int], usd: int) -> None:
        scopes = ("agent:a", "agent:b", "account:x", "role:y")
        for scope, amount in zip(scopes, amounts, strict=True):
            kind: LimitKind = "allowance" if scope.startswith("agent") else "pool"
            self.limits.append(Counter(Limit(kind=kind, scope=scope, amount=amount)))
        self.limits.append(Counter(Limit(kind="pool", scope="host", amount=usd, unit="usd")))

    @rule(
        agent=st.sampled_from([0, 1]),
        others=st.sets(st.sampled_from([2, 3, 4])),
        fresh=st.integers(0, 3_000),
        cached=st.just(0) | st.integers(0, 20_000),
        output=st.integers(0, 6_000),
        declared=st.integers(1, 8_000) | st.none(),
        thinness=st.integers(1, 5),
        counts=st.booleans(),
        guess=st.none() | st.integers(1, 200),
    )
    def arrive(
        self,
        agent: int,
        others: set[int],
        fresh: int,
        cached: int,
        output: int,
        declared: int | None,
        thinness: int,
        counts: bool,
        guess: int | None,
    ) -> None:
        body_bytes = (fresh + cached) * thinness
        request = Request(
            draws=(agent, *sorted(others)),
            input=fresh,
            cached=cached,
            output=output,
            max_tokens=declared,
            body_bytes=body_bytes,
            counts=counts,
            guess=None if guess is None else (fresh + cached) * guess // 100,
            need=Need(bounds=(Bound(tokens=body_bytes, by="bytes"),), counting=True, max_tokens=declared),
        )
        if not self.line.is_claimed(request.draws) and self._ask(request) is None:
            return
        request.place = self.line.enter(request, request.draws)
        self.line.advance(self._ask)

    def _waiting(self) -> list[Request]:
        return [place.what for place in self.line]

    @precondition(lambda self: any(request.need.counting for request in self._waiting()))
    @rule(which=st.integers(0, 10**6))
    def measure(self, which: int) -> None:
        counting = [request for request in self._waiting() if request.need.counting]
        request = counting[which % len(counting)]
        bounds = request.need.bounds
        whole = request.input + request.cached
        if request.counts:
            bounds += (Bound(tokens=whole, by="count"),)
        elif request.guess is not None:
            bounds += (Bound(tokens=request.guess, by="ratio"),)
        request.need = Need(
            bounds=bounds, counted=whole if request.counts else None, max_tokens=request.max_tokens, counting=False
        )
        self.line.advance(self._ask)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 10**6))
    def tell_input(self, which: int) -> None:
        request = self.open[which % len(self.open)]
        if request.told:
            return
        request.told = True
        read = Tokens(input=request.input, cache_read=request.cached)
        for at, held in request.holds.items():
            told = self._cost(at, read) + self._cost(at, Tokens(output=request.sent))
            if told < held:
                self.limits[at].held -= held - told
                request.holds[at] = told
        self.line.advance(self._ask)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 10**6), fails=st.booleans())
    def settle(self, which: int, fails: bool) -> None:
        request = self.open.pop(which % len(self.open))
        self._release(request)
        for at in request.draws:
            self.limits[at].used += 0 if fails else self._cost(at, request.used)
            if request.shares[at].how != "sure":
                self.excused.add(at)
        self.line.advance(self._ask)

    @precondition(lambda self: len(self.line) > 0)
    @rule(which=st.integers(0, 10**6))
    def leave(self, which: int) -> None:
        waiting = self._waiting()
        place = waiting[which % len(waiting)].place
        assert place is not None
        assert self.line.leave(place)
        self.line.advance(self._ask)

    @rule(at=st.integers(0, 4), percent=st.integers(10, 300))
    def set_limit(self, at: int, percent: int) -> None:
        counter = self.limits[at]
        amount = max(1, counter.limit.amount * percent // 100)
        counter.limit = Limit(
            kind=counter.limit.kind, scope=counter.limit.scope, amount=amount, unit=counter.limit.unit
        )
        counter.ceiling = max(amount, counter.used + counter.held)
        self.line.advance(self._ask)

    @rule(at=st.integers(0, 4))
    def roll_window(self, at: int) -> None:
        counter = self.limits[at]
        counter.used = 0
        counter.ceiling = max(counter.limit.amount, counter.held)
        self.excused.discard(at)
        self.line.advance(self._ask)

    # --- the gate -----------------------------------------------------------------------------------------------------

    def _ask(self, request: Request) -> Stays | None:
        standings = [self._standing(at) for at in request.draws]
        decision = decide(
            standings, request.need, weights=WEIGHTS, rates=lambda _: RATES, now=0.0, agent="a", model=None
        )
        if isinstance(decision, RefuseRequest):
            assert decision.why in ("spent", "too_big"), decision
            self._could_not_be(request, decision)
            return None
        if isinstance(decision, Admit):
            self._admit(request, decision)
            return None
        request.waits_on = frozenset(request.draws[place] for place in decision.on)
        own = frozenset(at for at in request.waits_on if self.limits[at].limit.kind == "allowance")
        return Stays(on=request.waits_on, own=own)

    def _admit(self, request: Request, decision: Admit) -> None:
        request.sent = decision.output
        for at, share in zip(request.draws, decision.shares, strict=True):
            counter = self.limits[at]
            assert counter.used < counter.limit.amount
            assert counter.used + counter.held + share.held <= counter.limit.amount, "the law"
            if share.how == "sure":
                assert share.held >= self._cost(at, request.used)
            else:
                assert not counter.open, "it goes alone"
                self.excused.add(at)
            request.holds[at] = share.held
            request.shares[at] = share
        if decision.max_tokens is not None and request.max_tokens is not None:
            # Some limit leaves no more, and nothing else is open under it.
            more = Tokens(output=decision.output + 1)
            assert any(
                not self.limits[at].open
                and self.limits[at].used + share.reading + self._cost(at, more) > self.limits[at].limit.amount
                for at, share in zip(request.draws, decision.shares, strict=True)
            ), "cut short while others were open"
        for at, share in zip(request.draws, decision.shares, strict=True):
            self.limits[at].held += share.held
            self.limits[at].open += 1
        self.open.append(request)

    def _could_not_be(self, request: Request, refusal: RefuseRequest) -> None:
        """No request is refused for good while its counted input and an answer fit."""
        if refusal.why == "spent":
            return
        assert not request.need.counting
        if not request.counts:
            return
        answer = min(4_096, 4_096 if request.max_tokens is None else request.max_tokens)
        need = Tokens(input=request.input + request.cached, output=answer)
        (at,) = [at for at in request.draws if self.limits[at].limit is refusal.standing.limit]
        # In money the counted input may be written into the cache, which costs more.
        dear = Tokens(cache_write=need.input, output=answer)
        assert self._cost(at, dear) > self.limits[at].limit.amount - self.limits[at].used

    def _standing(self, at: int) -> LimitState:
        counter = self.limits[at]
        return LimitState(limit=counter.limit, used=counter.used, reserved=counter.held, open=counter.open)

    def _cost(self, at: int, tokens: Tokens) -> int:
        return WEIGHTS.weigh(tokens) if self.limits[at].limit.unit == "tokens" else RATES.price(tokens)

    def _release(self, request: Request) -> None:
        for at, held in request.holds.items():
            self.limits[at].held -= held
            self.limits[at].open -= 1

    # --- what holds ---------------------------------------------------------------------------------------------------

    @invariant()
    def no_limit_is_passed(self) -> None:
        for at, counter in enumerate(self.limits):
            if at not in self.excused:
                assert counter.used + counter.held <= max(counter.limit.amount, counter.ceiling)

    @invariant()
    def an_exception_passes_a_limit_by_its_input_at_most(self) -> None:
        for request in self.open:
            for at, share in request.shares.items():
                if share.how == "cached":
                    assert self._cost(at, request.used) <= share.held + share.excess

    @invariant()
    def something_always_begins(self) -> None:
        """Who is first in the line waits for its own count, or for one that is open."""
        for request in self._waiting()[:1]:
            assert request.need.counting or any(self.limits[at].open for at in request.waits_on)

    def teardown(self) -> None:
        """When all has ended, nobody waits."""
        while self.open or len(self.line):
            before = (len(self.open), len(self.line), sum(each.need.counting for each in self._waiting()))
            while any(request.need.counting for request in self._waiting()):
                self.measure(0)
            if self.open:
                self.settle(0, True)
            after = (len(self.open), len(self.line), sum(each.need.counting for each in self._waiting()))
            assert after != before, "it stands still"


TestLaw = Law.TestCase
TestLaw.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_the_law_for_long() -> None:
    end = time.monotonic() + soak.share()
    while time.monotonic() < end:
        run_state_machine_as_test(Law, settings=settings(max_examples=100, stateful_step_count=80, deadline=None))
