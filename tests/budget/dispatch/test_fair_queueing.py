"""Whose turn it is: queues are served by their weights, whatever their tasks cost."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget.dispatch.fair_queueing import AGENTS, Charge, finish, queue_of, settled, weights
from tests import soak


def next_of(ahead: dict[str, float], costs: dict[str, float]) -> str:
    """The queue that is next, as dispatch finds it."""
    each = weights(costs)
    return min(costs, key=lambda queue: (finish(ahead.get(queue, 0.0), costs[queue], each[queue]), queue))


def test_a_class_divides_its_weight_among_its_operators_with_waiting_work() -> None:
    found = weights(["high ana", "normal ana", "normal otto", "low vera", "normal ana"])
    assert found == {"high ana": 8.0, "normal ana": 2.0, "normal otto": 2.0, "low vera": 1.0}


def test_agents_that_no_person_asked_share_one_portion() -> None:
    assert queue_of("low", "agent:coder0") == queue_of("low", "role:judge") == f"low {AGENTS}"
    assert queue_of("low", "ana") == "low ana"


def test_the_charge_moves_the_time_of_the_busy_and_of_nobody_else() -> None:
    ahead = {"normal ana": 30.0, "normal otto": 10.0, "low idle": 15.0, "low gone": 5.0, "high held": 40.0}
    charge = Charge(
        queue="normal otto", cost=100.0, weight=2.0, busy=frozenset({"normal ana"}), held=frozenset({"high held"})
    )
    # The lowest busy one was 10 ahead: the idle pay off what they owe, the held keep their distance.
    assert charge.on(ahead) == {"normal ana": 20.0, "normal otto": 50.0, "low idle": 5.0, "high held": 40.0}
    critical = Charge(queue="critical ana", cost=10.0, weight=1.0)
    assert critical.on(ahead) == {**ahead, "critical ana": 10.0}


def test_a_queue_that_becomes_busy_starts_no_lower_than_the_lowest_busy_one() -> None:
    ahead: dict[str, float] = {}
    for _ in range(50):
        ahead = Charge(queue="normal ana", cost=1000.0, weight=4.0).on(ahead)
    # Nobody was there but ana: otto has no credit for that time.
    costs = {"normal ana": 1000.0, "normal otto": 1000.0}
    assert ahead == {"normal ana": 250.0}
    served = []
    for _ in range(10):
        queue = next_of(ahead, costs)
        served.append(queue)
        ahead = Charge(queue=queue, cost=1000.0, weight=2.0, busy=frozenset(costs)).on(ahead)
    assert served.count("normal otto") in (5, 6)


def test_the_true_cost_takes_the_place_of_the_charge_and_idle_queues_gain_nothing() -> None:
    assert settled(25.0, weight=4.0, charged=100.0, actual=500.0, waits=True) == 125.0
    assert settled(25.0, weight=4.0, charged=500.0, actual=100.0, waits=True) == -75.0
    assert settled(25.0, weight=4.0, charged=500.0, actual=100.0, waits=False) == 0.0
    assert settled(125.0, weight=4.0, charged=500.0, actual=100.0, waits=False) == 25.0


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_busy_queues_are_never_further_apart_than_a_task_of_each(seed: int) -> None:
    """The bound of self-clocked fair queueing: by its weight no queue is served more than another, but for one task."""
    source = random.Random(f"{soak.seed()}/{seed}")
    queues = [f"{urgency} o{number}" for urgency in ("high", "normal", "low") for number in range(source.randint(1, 4))]
    each = weights(queues)
    largest = {queue: source.choice((10.0, 1e3, 1e5)) for queue in queues}
    costs = {queue: source.uniform(1.0, largest[queue]) for queue in queues}
    ahead: dict[str, float] = {}
    got = dict.fromkeys(queues, 0.0)
    for _ in range(400):
        queue = next_of(ahead, costs)
        charge = Charge(queue=queue, cost=costs[queue], weight=each[queue], busy=frozenset(queues))
        ahead = charge.on(ahead)
        got[queue] += costs[queue] / each[queue]
        costs[queue] = source.uniform(1.0, largest[queue])
        for one in queues:
            for other in queues:
                apart = largest[one] / each[one] + largest[other] / each[other]
                assert got[one] - got[other] <= apart + 1e-6, (soak.seed(), seed)


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_estimates_that_are_wrong_by_five_are_put_right_by_what_tasks_cost(seed: int) -> None:
    """Whoever asks for much and says little gets no more in the end."""
    source = random.Random(f"{soak.seed()}/{seed}")
    queues = {"normal ana": 0.2, "normal otto": 1.0, "normal vera": 5.0}
    ahead: dict[str, float] = {}
    got = dict.fromkeys(queues, 0.0)
    under_way: list[tuple[str, float, float]] = []
    for _ in range(900):
        costs = {queue: 100.0 * wrong for queue, wrong in queues.items()}
        queue = next_of(ahead, costs)
        ahead = Charge(queue=queue, cost=costs[queue], weight=4 / 3, busy=frozenset(queues)).on(ahead)
        under_way.append((queue, costs[queue], source.uniform(50.0, 150.0)))
        while len(under_way) > 4:
            queue, charged, actual = under_way.pop(source.randrange(len(under_way)))
            got[queue] += actual
            after = settled(ahead.get(queue, 0.0), weight=4 / 3, charged=charged, actual=actual, waits=True)
            ahead = {**ahead, queue: after}
    assert max(got.values()) - min(got.values()) < 3_000, (soak.seed(), seed, got)
    assert sum(got.values()) == pytest.approx(90_000, rel=0.1)
