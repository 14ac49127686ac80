"""How far work under way may be ahead of its line."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget.windows.even_spread_line import JITTER_S, Certainty, PacePolicy, Window, redrawn
from budget.windows.overrun_allowance import PaceAllowance, overrun
from budget.windows.window_state import WindowState, ceiling, settled
from tests.budget.windows.random_windows import BEGINS, DAY, HOUR, POLICY, URGENCIES, day, drawn, leave, standing, week
from tests.budget.windows.test_pacing_properties import ANY, AUTHORIZATIONS, CLOCK, POLICIES, standings


def pace(held: WindowState, now: float = BEGINS, policy: PacePolicy = POLICY) -> PaceAllowance:
    found = overrun(held, now, policy)
    assert found is not None
    return found


def test_a_turn_may_be_a_day_ahead_of_its_line_and_no_further() -> None:
    found = pace(standing(week()))
    assert found.at(BEGINS) == pytest.approx(1 / 7 + 0.03)
    assert found.at(BEGINS + 2 * DAY) == pytest.approx(3 / 7 + 0.03 * 5 / 7)
    # When the line read a day ahead has come to all of it, the limit alone holds.
    assert found.until_at == pytest.approx(BEGINS + 6 * DAY, abs=HOUR)
    assert found.at(found.until_at - 1) == pytest.approx(1, abs=0.01)
    assert found.at(found.until_at) is None


def test_of_short_windows_it_is_a_fifth() -> None:
    assert pace(standing(day())).at(BEGINS) == pytest.approx(230_000)


def test_it_depends_on_the_line_and_not_on_what_is_used_since() -> None:
    found = pace(standing(week()))
    for used, later in ((0.1, HOUR), (0.5, 20 * HOUR), (2.0, 23 * HOUR)):
        assert pace(standing(week(used)), BEGINS + later) == found


def test_it_says_when_it_lets_more_than_that_pass() -> None:
    found = pace(standing(day()))
    at = found.passes(500_000, BEGINS)
    assert found.at(at) == pytest.approx(500_000)
    assert found.passes(100_000, BEGINS + HOUR) == BEGINS + HOUR
    assert found.passes(5e6, BEGINS) == found.until_at


def test_what_is_authorized_comes_on_top_while_it_lasts() -> None:
    held = standing(week(), authorizations=[leave(0.2, until=BEGINS + DAY), leave(0.1, until=BEGINS + 2 * DAY)])
    bare, found = pace(standing(week())), pace(held)
    assert found.at(BEGINS + HOUR) == pytest.approx((bare.at(BEGINS + HOUR) or 0) + 0.3)
    # Who has two is told anew when the first is over.
    assert found.at(BEGINS + DAY) == bare.at(BEGINS + DAY)
    assert found.passes(0.4, BEGINS) == BEGINS
    # What it lets pass too late is of no use.
    late = replace(found, lift=0.01, lift_until=BEGINS + HOUR)
    assert late.passes(0.4, BEGINS) == bare.passes(0.4, BEGINS)


@pytest.mark.parametrize(
    "held",
    [
        standing(week(None)),
        standing(week(certainty="unknown", resets_at=None)),
        standing(week(begins_at=None, resets_at=None, length_s=None)),
        standing(week(limit=math.nan)),
        # Where nothing is spread, all of it may be used at any time.
        standing(week(), line=replace(standing(week()).line, level=1.0)),
    ],
)
def test_what_is_not_known_or_not_spread_has_none(held: WindowState) -> None:
    assert overrun(held, BEGINS, POLICY) is None


def test_it_can_be_switched_off_and_is_never_less_than_what_may_be_borrowed() -> None:
    assert overrun(standing(week()), BEGINS, replace(POLICY, overrun=None)) is None
    assert pace(standing(week()), policy=replace(POLICY, overrun=0.0)).at(BEGINS) == pytest.approx(0.5 / 7 + 0.03)
    assert pace(standing(week()), policy=replace(POLICY, overrun=0.0, borrow=0.0)).at(BEGINS) == pytest.approx(0.03)


def test_a_clock_that_is_set_leaves_the_limit_alone() -> None:
    found = pace(standing(week()))
    assert found.at(BEGINS - 60) == found.at(BEGINS)
    assert found.at(BEGINS - JITTER_S - 1) is None
    assert found.at(BEGINS + 366 * DAY) is None


def test_who_never_stops_uses_a_week_up_in_six_days_and_on_no_day_much_more_than_twice_the_even_rate() -> None:
    held, used, days = standing(week()), 0.0, []
    for number in range(7):
        before = used
        for hour in range(24):
            now = BEGINS + number * DAY + hour * HOUR
            held = replace(held, window=replace(held.window, used=used))
            held = settled(held, now, POLICY) or held
            found = overrun(held, now, POLICY)
            allowed = None if found is None else found.at(now)
            used = max(used, 1.0 if allowed is None else allowed)
        days.append(used - before)
    assert days[0] < 2 / 7 + 0.03
    assert sum(days[:5]) < 0.97
    assert used == 1.0


@pytest.mark.parametrize("wanted", [0.3, 0.6, 0.9])
def test_a_large_task_that_saved_up_and_was_let_begin_is_not_held_within_what_it_saved(wanted: float) -> None:
    used, begins = 0.05, BEGINS + 5 * DAY
    before = WindowState(window=week(used), line=drawn(week(used), BEGINS + 3 * DAY))
    # It uses nothing but what it was projected to, and lines are drawn anew as it does.
    held = replace(before, largest=wanted)
    for step in range(25):
        now = begins + step / 25 * min(DAY, BEGINS + 7 * DAY - begins)
        held = replace(held, window=week(used + wanted * step / 24))
        held = settled(held, now, POLICY) or held
        found = overrun(held, now, POLICY)
        allowed = None if found is None else found.at(now)
        assert allowed is None or allowed > used + wanted * step / 24 - 1e-9
    # While nothing large is under way, a day's worth is all.
    assert (pace(before, begins).at(BEGINS + 3 * DAY) or 0) < used + 0.95 / 4 + 0.03


@given(standings(), CLOCK, POLICIES, st.none() | st.floats(0, 1))
def test_it_is_never_lower_than_what_work_may_begin_within(
    held: WindowState, now: float, policy: PacePolicy, ahead: float | None
) -> None:
    policy = replace(policy, overrun=ahead)
    found = overrun(held, now, policy)
    allowed = None if found is None else found.at(now)
    if found is None or allowed is None or (found.lift_until and not now < found.lift_until):
        return
    assert math.isfinite(allowed)
    for urgency in URGENCIES[:3]:
        assert allowed >= ceiling(held, urgency, now, policy) * (1 - 1e-9) - 1e-9


@given(
    used=st.floats(0, 1.2),
    later=st.floats(0, 1.2),
    at=st.floats(0, 7),
    ahead=st.floats(0, 1),
    drawn_ahead=st.floats(0, 0.5),
    certainty=st.sampled_from(get_args(Certainty)),
    length=st.floats(1, 8),
    authorizations=st.lists(AUTHORIZATIONS, max_size=2),
)
def test_between_the_line_and_the_limit(
    used: float,
    later: float,
    at: float,
    ahead: float,
    drawn_ahead: float,
    certainty: Certainty,
    length: float,
    authorizations: list[object],
) -> None:
    window: Window = week(used, certainty=certainty, length_s=length * DAY)
    line = redrawn(window, None, BEGINS, POLICY)
    assert line is not None
    line = replace(line, ahead=drawn_ahead)
    held = WindowState(window=replace(window, used=later), line=line, authorizations=authorizations)  # type: ignore[arg-type]
    policy, now = replace(POLICY, overrun=ahead), BEGINS + at * DAY
    found = overrun(held, now, policy)
    if found is None or (allowed := found.at(now)) is None:
        return
    bare = found.without_lift()
    paced = bare.at(now)
    assert paced is not None
    assert paced <= 1 + 1e-9
    for urgency in URGENCIES[:3]:
        assert allowed >= ceiling(held, urgency, now, policy) - 1e-9
    # It says when it lets that pass; where it hardly rises, as well as that can be told.
    rise = (bare.until_amount - bare.from_amount) / (bare.until_at - bare.from_at)
    passes = bare.passes(paced, BEGINS)
    assert abs(passes - now) * rise < 1e-9


@given(
    st.builds(PaceAllowance, from_at=ANY, from_amount=ANY, until_at=ANY, until_amount=ANY, lift=ANY, lift_until=ANY),
    CLOCK,
)
def test_whatever_the_numbers_are_what_is_sane_gives_numbers(found: PaceAllowance, t: float) -> None:
    if found.is_sane:
        allowed = found.at(t)
        assert allowed is None or not math.isnan(allowed)
        assert found.passes(1000.0, t) >= t


def test_while_critical_work_is_under_way_the_limit_alone_holds() -> None:
    """It begins at once within the limit, so the egress must not refuse its requests."""
    now_at = standing(week(0.5))
    assert overrun(now_at, BEGINS + DAY, POLICY) is not None
    assert overrun(replace(now_at, critical=True), BEGINS + DAY, POLICY) is None
