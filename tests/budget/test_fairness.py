"""Operators, and the roles of an operator, get equal shares of what is spent; nobody waits for ever."""

from __future__ import annotations

import itertools
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from budget.fairness import Flow, Share, bound, corrected, next_share, turn

COSTS = st.floats(min_value=1.0, max_value=1e6)
SMALL = st.floats(min_value=1.0, max_value=40.0)


def test_who_needs_the_fewest_rounds_is_served_and_the_others_come_closer() -> None:
    found = turn([Flow(key="ana", cost=100.0), Flow(key="otto", cost=30.0)], {})
    assert (found.key, found.rounds, dict(found.deficits)) == ("otto", 30.0, {"ana": 30.0, "otto": 0.0})
    found = turn([Flow(key="ana", cost=100.0), Flow(key="otto", cost=90.0)], found.deficits)
    assert (found.key, dict(found.deficits)) == ("ana", {"ana": 0.0, "otto": 70.0})


def test_who_has_nothing_to_do_gathers_no_credit_and_keeps_its_debts() -> None:
    found = turn([Flow(key="ana", cost=10.0)], {"otto": 500.0, "vera": -50.0, "stan": 7.0}, blocked={"stan"})
    assert dict(found.deficits) == {"ana": 0.0, "otto": 0.0, "vera": -40.0, "stan": 7.0}


@given(costs=st.lists(st.lists(COSTS, min_size=12, max_size=12), min_size=2, max_size=4))
def test_long_run_shares_are_equal_by_cost(costs: list[list[float]]) -> None:
    """As long as all have work, no two were ever served amounts that differ by more than their dearest tasks."""
    deficits: dict[str, float] = {}
    served = [0.0] * len(costs)
    place = [0] * len(costs)
    while all(at < len(own) for at, own in zip(place, costs, strict=True)):
        flows = [Flow(key=str(each), cost=costs[each][place[each]]) for each in range(len(costs))]
        found = turn(flows, deficits)
        deficits, key = dict(found.deficits), int(found.key)
        served[key] += costs[key][place[key]]
        place[key] += 1
        dearest = sorted(max(own) for own in costs)
        assert max(served) - min(served) <= (dearest[-1] + dearest[-2]) * (1 + 1e-9)


@given(
    own=SMALL,
    deficit=st.floats(min_value=-40.0, max_value=0.0),
    others=st.lists(st.lists(SMALL, min_size=1, max_size=4), min_size=1, max_size=4),
)
def test_whoever_is_ready_is_served_within_the_bound(own: float, deficit: float, others: list[list[float]]) -> None:
    deficits = {"mine": deficit}
    served: dict[str, float] = defaultdict(float)
    for step in itertools.count():
        flows = [Flow(key="mine", cost=own)]
        flows += [Flow(key=f"{number}", cost=each[step % len(each)]) for number, each in enumerate(others)]
        found = turn(flows, deficits)
        deficits = dict(found.deficits)
        if found.key == "mine":
            break
        served[found.key] += others[int(found.key)][step % len(others[int(found.key)])]
        most = bound(cost=own, deficit=deficit, dearest=max(others[int(found.key)]))
        assert served[found.key] <= most * (1 + 1e-9)
        assert step < 1000


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), COSTS), min_size=1, max_size=12))
def test_operators_come_before_their_roles(tasks: list[tuple[str, str, float]]) -> None:
    """What is served is a task that is ready, and the same is served when asked again."""
    ready = [Share(operator=operator, role=role, cost=cost) for operator, role, cost in tasks]
    share, deficits = next_share(ready, {})
    assert share in ready
    assert (share, deficits) == next_share(ready, {})
    assert deficits[share.operator] <= 0.0


def test_an_operator_with_many_roles_gets_no_more_than_one_with_a_single_role() -> None:
    deficits: dict[str, float] = {}
    served: dict[str, int] = defaultdict(int)
    roles: dict[str, int] = defaultdict(int)
    ready = [Share(operator="ana", role=f"role{number}", cost=10.0) for number in range(9)]
    ready.append(Share(operator="otto", role="coder", cost=10.0))
    for _ in range(180):
        share, deficits = next_share(ready, deficits)
        served[share.operator] += 1
        roles[share.flow] += 1
    assert served == {"ana": 90, "otto": 90}
    assert {roles[f"ana role{number}"] for number in range(9)} == {10}


def test_what_cannot_begin_now_keeps_what_it_may_be_served() -> None:
    ready = [Share(operator="ana", role="coder", cost=10.0)]
    before = {"ana": 0.0, "ana review": 4.0, "otto": 3.0, "otto coder": 2.0}
    _, after = next_share(ready, before, blocked={("ana", "review"), ("otto", "coder")})
    assert after == {"ana": 0.0, "ana coder": 0.0, "ana review": 4.0, "otto": 3.0, "otto coder": 2.0}


def test_whoever_cost_more_than_was_charged_owes_it_and_credit_is_never_given_back() -> None:
    assert corrected({"ana": 5.0}, operator="ana", role="coder", charged=10.0, actual=30.0) == {
        "ana": -15.0,
        "ana coder": -20.0,
    }
    assert corrected({"ana": -4.0}, operator="ana", role="coder", charged=30.0, actual=10.0) == {
        "ana": 0.0,
        "ana coder": 0.0,
    }
