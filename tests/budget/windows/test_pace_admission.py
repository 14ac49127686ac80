"""What may begin by now, and when the rest may."""

from __future__ import annotations

import math
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from budget.windows.even_spread_line import LastSeen
from budget.windows.pace_admission import (
    Admitted,
    Cost,
    EvenSpreadLine,
    PacePolicy,
    Urgency,
    Waits,
    WindowState,
    admissible,
    burst_at,
    ceiling,
    decide,
    governing,
    line_at,
    redrawn,
    settled,
)
from budget.windows.running_task_reserve import ReservedTask, reserve
from tests.budget.windows.random_windows import (
    BEGINS,
    DAY,
    HOUR,
    POLICY,
    URGENCIES,
    at,
    day,
    drawn,
    leave,
    standing,
    week,
)

#: Ten percent of `week`.
MILLION = 1e6


# --- the line ----------------------------------------------------------------------------------------------------


def test_seven_days_give_a_seventh_a_day_and_a_burst_that_shrinks() -> None:
    line = drawn(week())
    assert [round(line_at(line, BEGINS + days * DAY), 3) for days in (-1, 0, 1, 3.5, 7, 8)] == [0, 0, 0.143, 0.5, 1, 1]
    assert [round(burst_at(week(), POLICY, BEGINS + days * DAY), 4) for days in (0, 3.5, 7, 9)] == [0.03, 0.015, 0, 0]


def test_what_was_not_used_is_spread_over_the_rest_at_midnight() -> None:
    monday = drawn(week())
    assert redrawn(week(0.01), monday, BEGINS + DAY - 1, POLICY) is None
    tuesday = redrawn(week(0.01), monday, BEGINS + DAY, POLICY)
    assert tuesday is not None
    assert tuesday.cause == "midnight"
    assert line_at(tuesday, BEGINS + 2 * DAY) == pytest.approx(0.01 + 0.99 / 6)


@pytest.mark.parametrize(
    ("zone", "drawn_at", "same_day", "next_day"),
    [
        ("America/New_York", "2026-11-22 12:00", "2026-11-22 23:59", "2026-11-23 00:00"),
        # 25 and 23 hours long; and one whose midnight the clocks leave out.
        ("America/New_York", "2026-11-01 00:00", "2026-11-01 23:59", "2026-11-02 00:00"),
        ("America/New_York", "2026-03-08 00:00", "2026-03-08 23:59", "2026-03-09 00:00"),
        ("America/Santiago", "2026-09-05 00:00", "2026-09-05 23:59", "2026-09-06 01:00"),
    ],
)
def test_midnight_is_the_operators(zone: str, drawn_at: str, same_day: str, next_day: str) -> None:
    policy = replace(POLICY, zone=ZoneInfo(zone))
    began = at(drawn_at, zone)
    window = week(begins_at=began - DAY, resets_at=began + 6 * DAY)
    line = drawn(window, began, policy)
    assert redrawn(window, line, at(same_day, zone), policy) is None
    again = redrawn(window, line, at(next_day, zone), policy)
    assert again is not None
    assert again.cause == "midnight"


def test_windows_under_two_days_are_drawn_anew_each_fifth() -> None:
    window = day(100_000)
    line = drawn(day())
    assert redrawn(window, line, BEGINS + DAY / 5 - 1, POLICY) is None
    again = redrawn(window, line, BEGINS + DAY / 5, POLICY)
    assert again is not None
    assert again.cause == "fifth"
    assert line_at(again, BEGINS + DAY * 0.6) == pytest.approx(550_000)


def test_a_line_is_drawn_anew_when_things_change() -> None:
    line, noon = drawn(week()), BEGINS + DAY / 2
    for window, cause in (
        (week(0.05, limit=0.5), "limit"),
        (week(0.05, begins_at=BEGINS + 7 * DAY, resets_at=BEGINS + 14 * DAY), "reset"),
        (week(0.05, resets_at=BEGINS + 6 * DAY), "observation"),
        (week(0.05, certainty="estimated"), "observation"),
    ):
        again = redrawn(window, line, noon, POLICY)
        assert again is not None
        assert again.cause == cause
    # Providers' clocks differ.
    assert redrawn(week(0.05, resets_at=BEGINS + 7 * DAY + 60), line, noon, POLICY) is None
    fell = redrawn(week(0.05), drawn(week(0.3)), noon, POLICY)
    assert fell is not None
    assert fell.cause == "observation"


def test_a_line_that_is_drawn_out_of_turn_neither_gives_nor_takes() -> None:
    noon = BEGINS + DAY / 2
    for used in (0.0, 0.05, 0.08, 0.12):
        now = standing(week(used))
        again = redrawn(week(used), now.line, noon, POLICY, cause="authorization")
        assert again is not None
        for urgency in URGENCIES[:3]:
            before = ceiling(now, urgency, noon, POLICY)
            after = ceiling(replace(now, line=again), urgency, noon, POLICY)
            # What is ahead of the line already was taken of the burst, however often it is drawn.
            assert after <= max(before, used) + 1e-9
            assert after >= min(before, used) - 1e-9
            if used <= line_at(now.line, noon):
                assert after == pytest.approx(before, abs=0.02)


def test_what_is_borrowed_is_not_given_again_though_the_use_became_unknown() -> None:
    now = standing(week(None, at_least=0.16))
    again = settled(now, BEGINS + DAY / 2, POLICY, cause="observation")
    assert again is not None
    before, after = (ceiling(each, "high", BEGINS + DAY / 2, POLICY) for each in (now, again))
    assert 0.16 < after <= before


def test_what_is_less_certain_is_paced_with_more_care() -> None:
    noon = BEGINS + DAY / 2
    room = [
        admissible(standing(week(certainty=how)), "normal", noon, POLICY)
        for how in ("provider", "user", "estimated", "unknown")
    ]
    assert room[0] == room[1] > room[2] > room[3] > 0


def test_without_an_end_there_is_nothing_to_spread() -> None:
    window = day(400_000, begins_at=None, resets_at=None, length_s=None)
    for urgency in URGENCIES[:2]:
        assert admissible(standing(window), urgency, BEGINS, POLICY) == 600_000


# --- urgency -----------------------------------------------------------------------------------------------------


def test_urgency_moves_the_gate() -> None:
    noon = BEGINS + DAY / 2
    now = standing(week())
    room = [round(admissible(now, urgency, noon, POLICY), 4) for urgency in URGENCIES]
    # Half of a seventh and the burst; half a day ahead; all of it.
    assert room == [0.0993, 0.0993, 0.1707, 1.0]


def test_critical_work_passes_a_limit_within_an_authorization_and_never_a_providers_quota() -> None:
    late = BEGINS + DAY * 0.9
    full = standing(day(1e6), line=drawn(day(1e6), late), authorizations=[leave(200_000, "tokens", scope="host")])
    assert admissible(full, "high", late, POLICY) == 0
    assert admissible(full, "critical", late, POLICY) == 200_000
    assert admissible(replace(full, authorizations=()), "critical", late, POLICY) == 0
    quota = standing(week(1.0), authorizations=[leave(0.5)])
    assert admissible(quota, "critical", BEGINS + 6 * DAY, POLICY) == 0
    over = standing(week(1.2), authorizations=[leave(0.5)])
    assert admissible(over, "critical", BEGINS + 6 * DAY, POLICY) == 0


# --- authorizations ----------------------------------------------------------------------------------------------


def test_the_smallest_amount_that_is_named_lets_it_begin_and_less_does_not() -> None:
    noon = BEGINS + DAY / 2
    now = standing(week(0.02), reserved=0.01)
    held = decide([now], Cost(tokens=2 * MILLION), "normal", noon, POLICY)
    assert isinstance(held, Waits)
    assert held.why == "pace"
    assert held.authorize is not None
    for amount, admitted in ((held.authorize, True), (held.authorize * 0.99, False)):
        given = replace(now, authorizations=[leave(amount, granted_at=noon)])
        # Giving it draws the line anew, too.
        line = redrawn(given.window, given.line, noon, POLICY, cause="authorization")
        assert line is not None
        found = decide([replace(given, line=line)], Cost(tokens=2 * MILLION), "normal", noon, POLICY)
        assert isinstance(found, Admitted) is admitted


def test_an_authorization_is_used_up_and_waiting_gives_nothing_back() -> None:
    noon = BEGINS + DAY / 2
    before = standing(week(0.0714 + 0.0279 + 0.06), authorizations=[leave(0.1)])
    after = settled(before, noon, POLICY)
    assert after is not None
    assert after.line.cause == "authorization"
    assert after.authorizations[0].drawn == pytest.approx(0.06, abs=1e-3)
    assert admissible(after, "normal", noon, POLICY) == pytest.approx(0.04, abs=2e-3)
    assert settled(after, noon, POLICY) is None
    # By the evening the line has come on; the authorization has not.
    evening = settled(after, BEGINS + DAY, POLICY)
    assert evening is not None
    assert evening.authorizations[0].drawn == after.authorizations[0].drawn


def test_an_authorization_ends_by_itself() -> None:
    noon = BEGINS + DAY / 2
    now = standing(week(), authorizations=[leave(0.5, until=noon)])
    assert admissible(now, "normal", noon - 1, POLICY) > 0.5
    assert admissible(now, "normal", noon, POLICY) < 0.1
    early = standing(week(), authorizations=[leave(0.5, granted_at=noon)])
    assert admissible(early, "normal", noon - 1, POLICY) < 0.1


def test_authorizations_are_counted_in_the_windows_unit() -> None:
    for given, worth in ((leave(MILLION, "tokens"), 0.1), (leave(0.1), 0.1), (leave(5, "usd"), 0)):
        more = admissible(standing(week(), authorizations=[given]), "normal", BEGINS, POLICY)
        assert more - admissible(standing(week()), "normal", BEGINS, POLICY) == pytest.approx(worth)


# --- what waits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.04, 0.1, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("urgency", URGENCIES)
@pytest.mark.parametrize("used", [0.0, 0.2, 0.5])
def test_it_fits_when_it_is_told_to_fit_and_not_long_before(share: float, urgency: Urgency, used: float) -> None:
    now = BEGINS + DAY
    begun = standing(week(used), line=drawn(week(used), now))
    held = decide([begun], Cost(tokens=share * 10 * MILLION), urgency, now, POLICY)
    if isinstance(held, Admitted):
        return
    assert held.at is not None
    for when, fits in ((held.at, True), (held.at - 600, False)):
        # Nothing else is spent; the line is drawn anew each midnight, and the window begins anew.
        window, line, t = begun.window, begun.line, now
        while t < when:
            t = min(t + 600, when)
            if t >= window.resets_at:  # type: ignore[operator]
                window = week(0.0, begins_at=BEGINS + 7 * DAY, resets_at=BEGINS + 14 * DAY)
            line = redrawn(window, line, t, POLICY) or line
        if t > now:
            cost = Cost(tokens=share * 10 * MILLION)
            found = decide([WindowState(window=window, line=line)], cost, urgency, t, POLICY)
            assert isinstance(found, Admitted) is fits, (when - BEGINS) / DAY


def test_of_several_windows_the_one_that_opens_last_is_told() -> None:
    hours = day(key="account:main/5h", scope="account:main", unit="share", limit=1.0, per_token=4e-7,
                resets_at=BEGINS + 5 * HOUR, length_s=5 * HOUR)  # fmt: skip
    both = [standing(hours), standing(week())]
    held = decide(both, Cost(tokens=MILLION), "normal", BEGINS + HOUR, POLICY)
    assert isinstance(held, Waits)
    assert (held.window, held.also) == ("account:main/7d", ("account:main/5h",))
    # One authorization opens both, as both are shares of what one account has.
    assert held.authorize is not None
    opened = [replace(each, authorizations=[leave(held.authorize)]) for each in both]
    assert isinstance(decide(opened, Cost(tokens=MILLION), "normal", BEGINS + HOUR, POLICY), Admitted)
    assert governing(both, "normal", BEGINS + HOUR, POLICY, Cost(tokens=1000.0)) == both[1]


def test_where_another_scope_holds_it_too_no_amount_is_named() -> None:
    both = [standing(day()), standing(week())]
    held = decide(both, Cost(tokens=5 * MILLION), "normal", BEGINS + HOUR, POLICY)
    assert isinstance(held, Waits)
    assert (held.window, held.why, held.at, held.authorize) == ("host/tokens/day", "limit", None, None)
    assert "1M tokens in all" in held.text


def test_what_is_not_known_lets_one_task_run_at_a_time() -> None:
    for window in (week(None), week(None, per_token=None), week(0.0, per_token=None)):
        alone = standing(window)
        assert isinstance(decide([alone], Cost(tokens=MILLION), "normal", BEGINS, POLICY), Admitted)
        busy = decide([replace(alone, under_way=1)], Cost(tokens=MILLION), "normal", BEGINS, POLICY)
        assert isinstance(busy, Waits)
        assert busy.why == "unknown"
    # But not once what surely was used is more than the pace allows, or all.
    for window in (week(None, at_least=0.5), week(None, at_least=1.0), week(1.0, per_token=None)):
        held = decide([standing(window)], Cost(tokens=1000.0), "normal", BEGINS + DAY, POLICY)
        assert isinstance(held, Waits)
        assert held.why in ("pace", "limit")


def test_what_has_no_known_price_runs_one_at_a_time_under_a_limit_in_dollars() -> None:
    # Otherwise a fleet that has only a limit in dollars would never begin, and so never learn a price.
    dollars = standing(day(unit="usd", limit=100.0))
    for urgency in URGENCIES:
        assert isinstance(decide([dollars], Cost(tokens=1.0), urgency, BEGINS + DAY / 2, POLICY), Admitted)
    busy = replace(dollars, under_way=1)
    held = decide([busy], Cost(tokens=1.0), "high", BEGINS + DAY / 2, POLICY)
    assert isinstance(held, Waits)
    assert (held.why, held.at) == ("price", None)
    assert isinstance(decide([busy], Cost(tokens=1.0), "critical", BEGINS + DAY / 2, POLICY), Admitted)
    gone = decide([standing(day(100.0, unit="usd", limit=100.0))], Cost(tokens=1.0), "normal", BEGINS + DAY / 2, POLICY)
    assert isinstance(gone, Waits)
    fits = decide([dollars], Cost(tokens=1.0, usd=40.0), "critical", BEGINS + DAY / 2, POLICY)
    assert isinstance(fits, Admitted)


def test_authorizations_beyond_all_numbers_add_up_to_one() -> None:
    leaves = [leave(9e307, "tokens", id=name, scope="host") for name in "ab"]
    for urgency in URGENCIES:
        assert admissible(standing(day(), authorizations=leaves), urgency, BEGINS, POLICY) < math.inf


def test_near_the_end_a_task_must_fit_with_what_it_may_come_to() -> None:
    late = BEGINS + 6.5 * DAY
    near = standing(week(0.9))
    usual, wide = Cost(tokens=0.02e7, high_tokens=0.022e7), Cost(tokens=0.02e7, high_tokens=0.04e7)
    assert isinstance(decide([near], usual, "normal", late, POLICY), Admitted)
    held = decide([near], wide, "normal", late, POLICY)
    assert isinstance(held, Waits)
    assert "might need more than is left" in held.text
    # Far from the end the window can make good for it, and where nothing cuts it off there is nothing to fear.
    assert isinstance(decide([standing(week(0.3))], wide, "normal", BEGINS + 3 * DAY, POLICY), Admitted)
    assert isinstance(decide([standing(week(0.9, hard=False))], wide, "normal", late, POLICY), Admitted)


def test_a_task_that_passed_its_projection_is_held_to_go_on() -> None:
    assert reserve([ReservedTask(projected=100, used=40)]).projected == 60
    assert reserve([ReservedTask(projected=100, used=100)]).projected > 0
    several = reserve([ReservedTask(projected=100, used=0)] * 4)
    assert 400 < several.high < 4 * reserve([ReservedTask(projected=100, used=0)]).high


# --- bad numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0, 0.0])
def test_numbers_that_are_none_are_never_taken_for_room(bad: float) -> None:
    limit = decide([standing(day(limit=bad))], Cost(tokens=1.0), "critical", BEGINS, POLICY)
    assert isinstance(limit, Waits)
    for window in (day(length_s=bad), day(begins_at=bad), day(resets_at=bad), day(length_s=bad, resets_at=bad)):
        room = admissible(standing(window), "normal", BEGINS + HOUR, POLICY)
        assert 0 <= room <= 1e6
    if not math.isfinite(bad):
        assert admissible(standing(day(bad), reserved=1.0), "normal", BEGINS + HOUR, POLICY) == 0
        cost = decide([standing(day())], Cost(tokens=bad), "normal", BEGINS + HOUR, POLICY)
        assert isinstance(cost, Waits)


def test_a_clock_that_jumps_does_not_stop_the_line_nor_give_all_of_it() -> None:
    window, line = week(0.1), drawn(week())
    for now, cause in (
        (BEGINS - HOUR, "observation"),
        (BEGINS - 365 * DAY, "observation"),
        (BEGINS + 365 * DAY, "reset"),
    ):
        again = redrawn(window, line, now, POLICY)
        assert again is not None
        assert again.cause == cause
        room = admissible(WindowState(window=window, line=again), "normal", now, POLICY)
        assert 0 <= room < 0.2


def test_a_window_that_is_over_is_not_spent_as_if_all_of_it_were_left() -> None:
    over = week(0.4)
    line = redrawn(over, drawn(over), BEGINS + 7 * DAY, POLICY)
    assert line is not None
    assert admissible(WindowState(window=over, line=line), "high", BEGINS + 7 * DAY, POLICY) < 0.1


@pytest.mark.parametrize("before", [1.02, 0.98, 0.6])
def test_what_a_provider_gives_back_is_spread_and_not_there_at_once(before: float) -> None:
    noon = BEGINS + 2.5 * DAY
    high = week(before)
    line = redrawn(high, drawn(high, BEGINS + 2 * DAY), BEGINS + 2 * DAY, POLICY) or drawn(high, BEGINS + 2 * DAY)
    low = week(0.3)
    line = redrawn(low, line, noon, POLICY) or line
    assert (line.cause, line.drawn_used) == ("observation", 0.3)
    # A line straight from there gives 15.5 percent a day and the burst.
    assert admissible(WindowState(window=low, line=line), "normal", noon, POLICY) < 0.13


def test_what_is_used_beyond_the_limit_leaves_nothing() -> None:
    for urgency in URGENCIES:
        assert admissible(standing(day(1.5e6)), urgency, BEGINS + DAY * 0.9, POLICY) == 0


def test_without_windows_nothing_is_held() -> None:
    assert decide([], Cost(tokens=1e12), "low", BEGINS, PacePolicy()) == Admitted(window=None)


def test_lines_of_the_register_may_lack_what_was_added_since() -> None:
    line = EvenSpreadLine(window="w", drawn_at=0.0, drawn_used=0.2, limit=1.0, resets_at=100.0, cause="first")
    assert line_at(line, 50.0) == pytest.approx(0.6)


def test_what_is_to_be_authorized_is_named_for_every_window_that_holds_it() -> None:
    noon = BEGINS + DAY / 2
    role = day(600_000, key="role:coder/tokens/day", scope="role:coder")
    found = [standing(day(700_000)), standing(role), standing(week(0.5))]
    waits = decide(found, Cost(tokens=10_000), "normal", noon, POLICY)
    assert isinstance(waits, Waits)
    assert {each.scope: each.unit for each in waits.leave} == {
        "host": "tokens",
        "role:coder": "tokens",
        "account:main": "share",
    }
    made = [leave(one.amount, one.unit, scope=one.scope, granted_at=noon) for one in waits.leave]
    given = [replace(each, authorizations=[one for one in made if one.scope == each.window.scope]) for each in found]
    given = [settled(each, noon, POLICY) or each for each in given]
    assert isinstance(decide(given, Cost(tokens=10_000), "normal", noon, POLICY), Admitted)
    assert not waits.critical


def test_nothing_is_named_where_an_authorization_would_not_help() -> None:
    noon = BEGINS + DAY / 2
    cost = Cost(tokens=50_000)
    full, paced = standing(day(980_000)), standing(day(700_000, key="role:coder/tokens/day", scope="role:coder"))
    for urgency in URGENCIES:
        helps = urgency == "critical"
        waits = decide([paced, full], cost, urgency, noon, POLICY)
        assert isinstance(waits, Waits)
        assert bool(waits.leave) == helps
        assert waits.critical == (not helps)
    # What nobody knows the cost of begins only where something is left, and leave gives nothing of a limit.
    used_up = standing(week(0.2, key="role:coder/share/account:main/7d", scope="role:coder", limit=0.2, per_token=None))
    waits = decide([used_up], cost, "normal", noon, POLICY)
    assert isinstance(waits, Waits)
    assert waits.leave == ()


def test_a_window_that_was_never_observed_is_said_to_be_unknown() -> None:
    waits = decide([standing(week(None, certainty="unknown"))], Cost(tokens=1000), "normal", BEGINS, POLICY)
    assert isinstance(waits, Waits)
    assert "what is used of it is not known" in waits.text
    assert "nears its end" not in waits.text


def test_more_than_a_day_of_a_window_whose_reset_nobody_knows_is_told_as_that() -> None:
    window = week(0.1, resets_at=None, begins_at=None, certainty="unknown")
    found = decide([standing(window)], Cost(tokens=4e6), "normal", BEGINS + HOUR, POLICY)
    assert isinstance(found, Waits)
    assert (found.at, found.large, found.reset_unknown) == (None, True, True)
    known = decide([standing(week(0.1))], Cost(tokens=4e6), "normal", BEGINS + HOUR, POLICY)
    assert isinstance(known, Waits)
    assert (known.large, known.reset_unknown) == (True, False)
    assert "more than a day of it grants" in known.text


@pytest.mark.parametrize("reset", [BEGINS + 7 * DAY, None])
def test_while_the_use_is_unknown_the_first_that_the_limit_allows_begins(reset: float | None) -> None:
    """It is how the use becomes known. A large task that cannot begin has nobody wait."""
    window = week(None, resets_at=reset, at_least=0.0)
    for tokens in (1000.0, 4e6):
        found = decide([standing(window)], Cost(tokens=tokens), "normal", BEGINS + HOUR, POLICY)
        assert isinstance(found, Admitted)
    too_large = decide([standing(window)], Cost(tokens=1.1e7), "normal", BEGINS + HOUR, POLICY)
    assert isinstance(too_large, Waits)
    assert (too_large.why, too_large.turn) == ("limit", False)
    nearly = decide([standing(replace(window, at_least=0.7))], Cost(tokens=4e6), "critical", BEGINS + HOUR, POLICY)
    assert isinstance(nearly, Waits)
    assert "has too little left" in nearly.text


def test_a_window_that_was_seen_too_long_ago_is_paced_by_what_it_surely_came_to() -> None:
    """Two tasks of 40 percent would otherwise begin one after the other, as probes."""
    seen = LastSeen(at=BEGINS, used=0.1, tokens_since=0.0)
    stale = standing(week(None, at_least=0.1, last_seen=seen))
    now = BEGINS + DAY
    assert isinstance(decide([stale], Cost(tokens=5e5), "normal", now, POLICY), Admitted)
    known = standing(week(0.1))
    assert admissible(stale, "normal", now, POLICY) == admissible(known, "normal", now, POLICY) < 0.1
    large = decide([stale], Cost(tokens=4e6), "normal", now, POLICY)
    assert isinstance(large, Waits)
    assert (large.why, large.large, large.turn) == ("pace", True, False)
    assert "is no less than 10%" in large.text
    assert "this needs about 40%" in large.text
    small = decide([replace(stale, window=week(None, at_least=0.14, last_seen=seen))], Cost(tokens=4e5), "normal", now,
                   POLICY)  # fmt: skip
    assert isinstance(small, Waits)
    assert small.turn
    assert small.at is not None
    assert small.at < now + DAY
    busy = decide([replace(stale, under_way=1)], Cost(tokens=5e5), "normal", now, POLICY)
    assert isinstance(busy, Waits)
    assert busy.why == "unknown"


def test_only_what_the_line_alone_holds_has_others_wait() -> None:
    now = BEGINS + DAY
    waits = decide([standing(week(0.2))], Cost(tokens=1e6), "normal", now, POLICY)
    large = decide([standing(week(0.2))], Cost(tokens=3e6), "normal", now, POLICY)
    half = decide([standing(week(0.2))], Cost(tokens=6e6), "normal", now, POLICY)
    wide = Cost(tokens=2e5, high_tokens=4e5)
    margin = decide([standing(week(0.9))], wide, "normal", BEGINS + 6.5 * DAY, POLICY)
    found = [
        (each.turn, each.large, each.too_large) for each in (waits, large, half, margin) if isinstance(each, Waits)
    ]
    assert found == [(True, False, False), (False, True, False), (False, True, True), (False, False, False)]
    assert isinstance(half, Waits)
    assert "nothing is saved for it" in half.text


def test_critical_work_begins_within_the_limit_whatever_the_line_says() -> None:
    now_at = standing(week(0.9))
    assert isinstance(decide([now_at], Cost(tokens=9e5), "critical", BEGINS + HOUR, POLICY), Admitted)
    assert isinstance(decide([now_at], Cost(tokens=1.1e6), "critical", BEGINS + HOUR, POLICY), Waits)
    late = BEGINS + 6.75 * DAY
    reads = [ceiling(now_at, urgency, late, POLICY) - ceiling(now_at, "normal", late, POLICY) for urgency in URGENCIES]
    # High reads half of what is left of the last day ahead, low as far as normal.
    assert reads[:3] == [0.0, 0.0, pytest.approx(0.125 / 7)]
