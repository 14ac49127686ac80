"""Words of people to agents: held by limits, and by the pace only where its use is a day ahead."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget.costs.task_cost import ENOUGH, GUESSED_USD_PER_TOKEN, PRIORS, typical_turn
from budget.windows.even_spread_line import burst_on
from budget.windows.interactive_turns import Begins, decide
from budget.windows.overrun_allowance import overrun
from budget.windows.pace_admission import Cost, Waits, WindowState, admissible, settled
from tests.budget.windows.random_windows import BEGINS, DAY, HOUR, POLICY, day, leave, standing, week
from tests.budget.windows.test_pacing_properties import CLOCK, COSTS, POLICIES, standings

TURN = PRIORS["turn"].p50
COST = Cost(tokens=TURN, usd=TURN * GUESSED_USD_PER_TOKEN)


def test_the_first_words_under_a_new_daily_budget_begin_at_once() -> None:
    small = standing(day(limit=200_000.0, turn=TURN), BEGINS + 9 * HOUR)
    found = decide([small], COST, BEGINS + 9 * HOUR, POLICY)
    assert isinstance(found, Begins)
    assert not found.ahead, "the smallest burst is one typical turn"
    assert admissible(small, "normal", BEGINS + 9 * HOUR, POLICY) >= TURN


def test_a_weekly_budget_in_dollars_that_is_set_on_its_last_evening_admits_a_turn() -> None:
    evening = BEGINS + 6 * DAY + 20 * HOUR
    window = week(unit="usd", limit=5.0, key="host/usd/week", scope="host", per_token=None, turn=COST.usd)
    found = standing(window, evening)
    assert admissible(found, "normal", evening, POLICY) >= (COST.usd or 0.0)
    assert isinstance(decide([found], COST, evening, POLICY), Begins)


def test_the_smallest_burst_leaves_half_of_what_is_left() -> None:
    tiny = standing(day(limit=20_000.0, turn=TURN))
    assert burst_on(tiny.line, tiny.window, POLICY, BEGINS) == 10_000.0
    assert burst_on(tiny.line, tiny.window, POLICY, BEGINS + DAY) == 0.0


def test_words_that_pass_the_line_say_by_how_much_and_those_that_are_a_day_ahead_are_held() -> None:
    now = BEGINS + DAY
    turn = Cost(tokens=100_000.0)  # one percent of the week
    for used, ahead in ((0.10, None), (0.20, 0.21 - 1 / 7), (0.28, 0.29 - 1 / 7)):
        found = decide([standing(week(used))], turn, now, POLICY)
        assert isinstance(found, Begins), used
        assert [each.amount for each in found.ahead] == ([] if ahead is None else [pytest.approx(ahead)])
    held = standing(week(0.31))
    found = decide([held], turn, now, POLICY)
    assert isinstance(found, Waits)
    assert found.why == "pace"
    assert BEGINS + DAY < (found.at or 0) < BEGINS + 2 * DAY
    later = decide([standing(week(0.6))], turn, now, POLICY)
    assert isinstance(later, Waits)
    assert later.at == BEGINS + 2 * DAY, "at midnight the line begins at what is used"
    assert "a day ahead of its pace" in found.text
    (asked,) = found.leave
    more = replace(held, authorizations=[leave(asked.amount, granted_at=now)])
    assert isinstance(decide([settled(more, now, POLICY) or more], turn, now, POLICY), Begins)


def test_limits_hold_words_and_a_person_may_lift_only_their_own() -> None:
    for window, helps in ((day(995_000.0), True), (week(0.995), False)):
        found = decide([standing(window)], Cost(tokens=1e5), BEGINS + HOUR, POLICY)
        assert isinstance(found, Waits)
        assert (found.why, found.at, bool(found.leave)) == ("limit", window.resets_at, helps)
    # What others have reserved does not hold a person up, nor does a turn that no window could hold.
    busy = standing(day(100_000.0), reserved=900_000.0, under_way=3)
    assert isinstance(decide([busy], Cost(tokens=1e5), BEGINS + HOUR, POLICY), Begins)
    assert isinstance(decide([standing(day())], Cost(tokens=5e6), BEGINS + HOUR, POLICY), Begins)


def test_words_begin_where_nobody_knows_what_is_used() -> None:
    found = decide([standing(week(None), under_way=1)], COST, BEGINS + HOUR, POLICY)
    assert found == Begins()


@given(standings(), COSTS, CLOCK, POLICIES)
def test_words_wait_only_for_a_limit_or_where_the_egress_would_soon_refuse(
    held: WindowState, cost: Cost, now: float, policy: object
) -> None:
    found = decide([held], cost, now, policy)  # type: ignore[arg-type]
    if isinstance(found, Begins):
        return
    assert found.at is None or found.why == "limit" or found.at >= now
    if found.why == "pace":
        bound = overrun(held, now, policy)  # type: ignore[arg-type]
        assert bound is not None
        assert held.window.least_use + found.need > (bound.at(now) or 0.0)


@given(st.lists(st.tuples(st.floats(0, 1e9), st.none() | st.floats(0, 1e3)), max_size=9))
def test_a_typical_turn_is_a_guess_until_enough_are_known(seen: list[tuple[float, float | None]]) -> None:
    found = typical_turn(seen)
    known = sorted(tokens for tokens, _ in seen if tokens > 0)
    if len(known) < ENOUGH:
        assert found.tokens == TURN
    else:
        assert known[0] <= found.tokens <= known[-1]
    assert found.usd >= 0
