"""What holds while many requests are under way at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from budget.admission import Admit, Refuse, Standing, cost, decide
from budget.history import Estimate
from budget.prices import Rates
from budget.scopes import NANO_USD, Limit
from budget.tokens import Tokens, Weights

WEIGHTS = Weights()
RATES = Rates(
    input=3 * NANO_USD,
    output=15 * NANO_USD,
    cache_read=NANO_USD * 3 // 10,
    cache_write=NANO_USD * 15 // 4,
    reasoning=15 * NANO_USD,
)
ALL_AT_ONCE = 64


@dataclass
class Flight:
    """A request under way."""

    estimate: Estimate
    admitted: Admit
    so_far: Tokens = field(default_factory=Tokens)


class Gate:
    """Counts as a gate does, in whole numbers, over limits of both units."""

    def __init__(self, *limits: Limit) -> None:
        self.limits = limits
        self.used = [0] * len(limits)
        self.flights: list[Flight] = []

    def _counts(self, at: int, tokens: Tokens) -> int:
        return cost(tokens, self.limits[at].unit, WEIGHTS, RATES)

    def standing(self, at: int) -> Standing:
        held = sum(max(each.admitted.reserve[at], self._counts(at, each.so_far)) for each in self.flights)
        return Standing(limit=self.limits[at], used=self.used[at], reserved=held)

    @property
    def standings(self) -> list[Standing]:
        return [self.standing(at) for at in range(len(self.limits))]

    def ask(self, estimate: Estimate, max_tokens: int | None) -> Flight | Refuse:
        decision = decide(
            self.standings,
            estimate,
            max_tokens=max_tokens,
            weights=WEIGHTS,
            rates=RATES,
            now=0.0,
            agent="coder0",
            model=None,
        )
        if isinstance(decision, Refuse):
            return decision
        self.flights.append(Flight(estimate, decision))
        return self.flights[-1]

    def settle(self, flight: Flight, tokens: Tokens) -> None:
        self.flights.remove(flight)
        self.used = [used + self._counts(at, tokens) for at, used in enumerate(self.used)]

    def passed(self) -> bool:
        streaming = [sum(self._counts(at, each.so_far) for each in self.flights) for at in range(len(self.limits))]
        return any(
            used + more > limit.amount for used, more, limit in zip(self.used, streaming, self.limits, strict=True)
        )


def _limits(tokens: int, nano_usd: int) -> tuple[Limit, Limit]:
    return (
        Limit(kind="allowance", scope="agent:coder0", amount=tokens),
        Limit(kind="pool", scope="host", amount=nano_usd, unit="usd"),
    )


SMALL = st.integers(0, 300)
ESTIMATES = st.builds(
    lambda read, cached, wrote, thought: Estimate(
        expected=Tokens(input=read, cache_read=cached, output=wrote, reasoning=thought),
        input=Tokens(input=read, cache_read=cached),
    ),
    SMALL,
    SMALL,
    SMALL,
    SMALL,
)
LIMITS = st.builds(_limits, st.integers(1, 8_000), st.integers(1, 60_000_000))


@settings(max_examples=60, deadline=None)
@given(LIMITS, st.lists(ESTIMATES, min_size=ALL_AT_ONCE, max_size=ALL_AT_ONCE), st.data())
def test_whoever_keeps_to_reservations_never_passes_a_limit(
    limits: tuple[Limit, Limit], asked: list[Estimate], data: st.DataObject
) -> None:
    """Any interleaving of requests that come, stream and end within what was held for them."""
    gate = Gate(*limits)
    waiting = list(asked)
    for step in data.draw(st.lists(st.integers(0, 10**6), min_size=2 * ALL_AT_ONCE, max_size=2 * ALL_AT_ONCE)):
        before = gate.standings
        if waiting and (step % 2 or not gate.flights):
            decision = gate.ask(waiting.pop(), None if step % 3 else 4096)
            if isinstance(decision, Flight):
                assert all(standing.used < standing.limit.amount for standing in before)
        elif gate.flights:
            flight = gate.flights[step % len(gate.flights)]
            used = _share(flight, step % 101)
            if step % 5:
                flight.so_far = flight.so_far.at_least(used)
            else:
                gate.settle(flight, flight.so_far.at_least(used))
        for standing in gate.standings:
            assert standing.used + standing.reserved <= standing.limit.amount


def _share(flight: Flight, percent: int) -> Tokens:
    """A part of what is expected of a request, that its reservations have room for."""
    wanted = flight.estimate.expected
    while percent >= 0:
        part = Tokens(
            input=wanted.input * percent // 100,
            output=wanted.output * percent // 100,
            cache_read=wanted.cache_read * percent // 100,
            reasoning=wanted.reasoning * percent // 100,
        )
        both = (WEIGHTS.weigh(part), RATES.price(part))
        if all(counts <= held for counts, held in zip(both, flight.admitted.reserve, strict=True)):
            return part
        percent -= 10
    return Tokens()


@settings(deadline=None)
@given(st.integers(16, 400), st.integers(16, 400), st.integers(0, 415))
def test_ten_requests_fit_into_room_for_ten(read: int, wrote: int, spare: int) -> None:
    estimate = Estimate(expected=Tokens(input=read, output=wrote), input=Tokens(input=read))
    each = read + wrote
    gate = Gate(Limit(kind="pool", scope="host", amount=10 * each + min(spare, read + 15)))
    decisions = [gate.ask(estimate, wrote) for _ in range(ALL_AT_ONCE)]
    assert len(gate.flights) == 10
    refused = [decision for decision in decisions if isinstance(decision, Refuse)]
    assert {refusal.why for refusal in refused} == {"busy"}
    for flight in list(gate.flights):
        gate.settle(flight, estimate.expected)
    last = gate.ask(estimate, wrote)
    assert isinstance(last, Refuse)
    assert last.retry_after_s is None


@settings(deadline=None)
@given(st.integers(16, 400), st.integers(16, 400))
def test_requests_that_use_less_than_they_reserve_are_not_starved(read: int, wrote: int) -> None:
    """Nobody waits for good: one after the other, all are served that fit into a budget."""
    estimate = Estimate(expected=Tokens(input=read, output=10 * wrote), input=Tokens(input=read))
    used = Tokens(input=read, output=wrote)
    gate = Gate(Limit(kind="pool", scope="host", amount=10 * (read + wrote)))
    for _ in range(10):
        flight = gate.ask(estimate, None)
        assert isinstance(flight, Flight)
        gate.settle(flight, used)
    assert isinstance(gate.ask(estimate, None), Refuse)


@settings(max_examples=60, deadline=None)
@given(
    LIMITS,
    st.lists(ESTIMATES, min_size=ALL_AT_ONCE, max_size=ALL_AT_ONCE),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 40)), min_size=50, max_size=400),
)
def test_a_limit_is_overshot_by_one_report_at_most(
    limits: tuple[Limit, Limit], asked: list[Estimate], reports: list[tuple[int, int]]
) -> None:
    """Requests that write on and on, whatever was expected: clamped, and all cut at the crossing."""
    gate = Gate(*limits)
    for estimate in asked:
        gate.ask(estimate, None)
    for which, wrote in reports:
        if not gate.flights:
            break
        flight = gate.flights[which % len(gate.flights)]
        if flight.admitted.max_tokens is not None:
            wrote = min(wrote, flight.admitted.max_tokens - flight.so_far.output)
        flight.so_far += Tokens(output=wrote)
        if gate.passed():
            for each in list(gate.flights):
                gate.settle(each, each.so_far)
            assert all(isinstance(gate.ask(estimate, None), Refuse) for estimate in asked)
    for flight in list(gate.flights):
        gate.settle(flight, flight.so_far)
    for standing, most in zip(gate.standings, (40, 40 * RATES.output // 1_000_000 + ALL_AT_ONCE), strict=True):
        # Each request's share is rounded up to a whole nano-USD.
        assert standing.used <= standing.limit.amount + most
