"""People see when the pace will hold work before it does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget.windows.pace_admission import Cost, PacePolicy, Waits, WindowState, decide, settled
from budget.windows.usage_forecast import Use
from budget.windows.use_outlook import RECENT_S, held_from, outlook, present_rate
from tests.budget.windows.random_windows import BEGINS, DAY, HOUR, POLICY, day, drawn, standing, week

NOON = BEGINS + DAY / 2


def by_simulation(held: WindowState, rate: float, now: float, policy: PacePolicy, step: float) -> float | None:
    """When the pacing law first refuses the smallest work, if use really goes on so."""
    used, until = held.window.least_use, held.window.resets_at
    assert until is not None
    for place in range(int((until - now) / step)):
        t = now + place * step
        held = replace(held, window=replace(held.window, used=used + rate * (t - now)))
        held = settled(held, t, policy) or held
        if isinstance(decide([held], Cost(tokens=0.0, usd=0.0), "normal", t, policy), Waits):
            return t
    return None


@settings(max_examples=30)
@given(
    st.sampled_from((5 * HOUR, DAY, 7 * DAY)),
    st.floats(0.0, 0.9),
    st.floats(0.0, 0.9),
    st.floats(0.0, 12.0),
    st.sampled_from((0.01, 0.03, 0.1)),
)
def test_work_is_held_when_the_forecast_says_so(
    length: float, begun: float, used: float, speed: float, burst: float
) -> None:
    policy, now = PacePolicy(burst=burst), BEGINS + begun * length
    window = day(used * 1e6, length_s=length, resets_at=BEGINS + length)
    held = WindowState(window=window, line=drawn(replace(window, used=0.0), BEGINS, policy))
    held = settled(held, now, policy) or held
    rate, step = speed * 1e6 / length, length / 2_000
    said, was = held_from(held, rate, 0.0, now, policy), by_simulation(held, rate, now, policy, step)
    last = BEGINS + length - 3 * step
    if said is None or was is None:
        assert (said or last) >= last
        assert (was or last) >= last
    else:
        # A moment looked at may lie beyond the begin of a short hold, which the next redrawn line ends.
        assert said >= was - 2 * step - 60
    found = outlook(held, rate, now, policy)
    assert found is not None
    if said is not None:
        assert found.meets_limit_at is None or said <= found.meets_limit_at + 60


def test_an_idle_agent_is_held_by_nothing() -> None:
    found = outlook(standing(day(100_000.0)), 0.0, NOON, POLICY)
    assert found is not None
    assert (found.at_reset, found.meets_line_at, found.holds_at) == (100_000.0, None, None)
    assert (found.throttles_at, found.meets_limit_at) == (None, None)


def test_at_six_times_the_pace_first_the_line_then_the_burst_then_the_egress_and_last_the_limit_is_met() -> None:
    found = outlook(standing(day(100_000.0), line=drawn(day(100_000.0), NOON)), 6e6 / DAY, NOON, POLICY)
    assert found is not None
    assert found.meets_line_at == NOON
    assert found.holds_at is not None
    assert found.throttles_at is not None
    assert found.meets_limit_at == pytest.approx(NOON + 0.9e6 / 6e6 * DAY)
    assert NOON < found.holds_at < found.throttles_at <= (found.meets_limit_at or 0.0)
    assert found.at_reset == pytest.approx(100_000.0 + 3e6)


def test_what_is_ahead_is_held_now_and_what_is_used_up_has_met_its_limit() -> None:
    ahead = outlook(standing(day(900_000.0)), 0.0, NOON, POLICY)
    assert ahead is not None
    assert (ahead.meets_line_at, ahead.holds_at, ahead.meets_limit_at) == (NOON, NOON, None)
    over = outlook(standing(day(1_200_000.0)), 0.0, NOON, POLICY)
    assert over is not None
    assert over.meets_limit_at == NOON


def test_large_work_is_held_before_small_work() -> None:
    held = standing(day(100_000.0), line=drawn(day(100_000.0), NOON))
    large = held_from(held, 3e6 / DAY, 20_000.0, NOON, POLICY)
    small = held_from(held, 3e6 / DAY, 0.0, NOON, POLICY)
    assert large is not None
    assert small is not None
    assert large < small
    assert held_from(held, 0.0, 2e6, NOON, POLICY) == NOON


def test_without_a_spread_only_the_limit_holds() -> None:
    flat = replace(drawn(day(0.0), NOON), level=1e6)
    found = outlook(standing(day(400_000.0), line=flat), 2e6 / DAY, NOON, POLICY)
    assert found is not None
    assert found.meets_line_at is None
    assert found.holds_at == pytest.approx(found.meets_limit_at, abs=60)


def test_a_limit_without_an_end_is_looked_at_for_a_month() -> None:
    whole = day(100_000.0, begins_at=None, resets_at=None, length_s=None)
    held = standing(whole)
    soon, late = outlook(held, 0.9e6 / (20 * DAY), NOON, POLICY), outlook(held, 0.9e6 / (40 * DAY), NOON, POLICY)
    assert soon is not None
    assert late is not None
    assert soon.meets_limit_at == pytest.approx(NOON + 20 * DAY)
    assert soon.holds_at == pytest.approx(soon.meets_limit_at, abs=60)
    assert (late.meets_limit_at, late.holds_at, late.at_reset, late.meets_line_at) == (None, None, None, None)


def test_the_rate_is_that_of_the_last_hours_and_unknown_where_use_is_not_counted() -> None:
    now = NOON + HOUR / 2
    uses = [Use(at=NOON - hour * HOUR, role="", tokens=1_000.0) for hour in range(6)]
    rate = present_rate(standing(day()), uses, now)
    assert rate == pytest.approx(3_000.0 / (RECENT_S + HOUR / 2))
    assert present_rate(standing(week(per_token=2e-7)), uses, now) == pytest.approx(rate * 2e-7 if rate else None)
    assert present_rate(standing(week(per_token=None)), uses, now) is None
    assert present_rate(standing(day(unit="usd")), uses, now) is None, "the price is unknown"
    assert present_rate(standing(day()), [], now) == 0.0


def test_nothing_is_said_of_a_window_whose_use_is_unknown() -> None:
    assert outlook(standing(week(None)), 1.0, NOON, POLICY) is None
    assert held_from(standing(week(None)), 1.0, 0.0, NOON, POLICY) is None
