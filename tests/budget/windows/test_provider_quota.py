"""What is known of a provider's window, from what its responses said."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget.windows.even_spread_line import LastSeen
from budget.windows.pace_admission import Cost, PacePolicy, WindowState, admissible, decide, redrawn
from budget.windows.provider_quota import (
    FRESH_S,
    QuotaSample,
    WindowReading,
    capacity,
    counts_from,
    late_by,
    read,
    stale_after,
)
from tests import soak

HOUR, DAY = 3_600.0, 86_400.0
WEEK = 7 * DAY
#: When the window of these tests begins, and when it resets.
BEGINS = 1_795_996_800.0
RESET = BEGINS + WEEK
#: Ten million weighted tokens are all of it.
RATE = 1e-7


def seen(hours: float, used: float | None, **others: Any) -> QuotaSample:
    """So many hours after the window began; its reset is told with it."""
    given_: dict[str, Any] = {"reset_at": RESET, "length_s": WEEK, "tokens": None if used is None else used / RATE}
    return QuotaSample(account="main", window="7d", seen_at=BEGINS + hours * HOUR, used=used, **given_ | others)


def at(
    hours: float, *history: QuotaSample, spent: float = 0.0, rate: float | None = RATE, **others: Any
) -> WindowReading:
    return read(history, spent, BEGINS + hours * HOUR, rate, **others)


def kinds(reading: WindowReading) -> list[str]:
    return [event.kind for event in reading.events]


def test_it_is_what_was_observed_and_what_went_through_here_since() -> None:
    found = at(11, seen(9, 0.1), seen(10, 0.2), spent=500_000)
    assert found.used == pytest.approx(0.25)
    assert (found.begins_at, found.resets_at, found.length_s) == (BEGINS, RESET, WEEK)
    assert (found.certainty, found.used_at, found.events) == ("provider", BEGINS + 10 * HOUR, ())


def test_what_was_never_observed_is_unknown() -> None:
    nothing = at(1)
    assert (nothing.used, nothing.resets_at, nothing.certainty, nothing.at_least) == (None, None, "unknown", None)
    assert at(1, length_s=WEEK).length_s == WEEK
    word = at(1, seen(0.5, None, reset_at=None, length_s=None, status="allowed"))
    assert (word.used, word.certainty) == (None, "unknown")


def test_an_observation_that_is_old_is_unknown_and_no_less_than_it_said() -> None:
    hours = stale_after(WEEK) / HOUR
    assert at(10 + hours, seen(10, 0.2)).used == pytest.approx(0.2)
    stale = at(10.1 + hours, seen(10, 0.2), spent=100_000)
    assert stale.used is None
    assert stale.at_least == pytest.approx(0.21)
    assert kinds(stale) == ["stale"]
    assert stale.certainty == "provider"
    assert stale.last_seen == LastSeen(at=BEGINS + 10 * HOUR, used=0.2, tokens_since=100_000)
    window = stale.window(key="account:main/7d", scope="account:main", per_token=RATE)
    assert window.surely == pytest.approx(0.21)
    # Told once, however often it is read.
    assert at(11 + hours, seen(10, 0.2)).events == stale.events


def test_what_is_used_up_stays_so_until_the_reset() -> None:
    full = seen(10, 1.0)
    assert at(140, full).used == 1.0
    assert at(140, seen(10, None, status="rejected", tokens=0.0)).used == 1.0
    assert at(169, full).used is None


def test_spending_that_cannot_be_told_as_a_share_makes_it_unknown_soon() -> None:
    fresh, later = FRESH_S / HOUR * 0.9, FRESH_S / HOUR * 1.1
    assert at(10 + fresh, seen(10, 0.2), spent=1e6, rate=None).used == 0.2
    assert at(10 + later, seen(10, 0.2), spent=1e6, rate=None).used is None
    assert at(10 + later, seen(10, 0.2), spent=0, rate=None).used == 0.2


def test_after_its_reset_nothing_is_known_but_when_the_next_would_be() -> None:
    over = at(7 * 24 + 1, seen(160, 0.9), spent=300_000)
    assert over.used is None
    assert over.at_least == pytest.approx(0.03)
    assert (over.resets_at, over.begins_at, over.certainty) == (RESET + WEEK, RESET, "estimated")
    assert [(event.kind, event.at) for event in over.events] == [("reset", RESET)]
    # Of the new window only what went through since the reset counts.
    assert counts_from([seen(160, 0.9)], over_at := BEGINS + (7 * 24 + 1) * HOUR) == RESET
    assert counts_from([seen(160, 0.9)], BEGINS + 165 * HOUR) == BEGINS + 160 * HOUR
    assert counts_from([seen(160, 0.9)], over_at + 3 * WEEK) == RESET + 3 * WEEK
    assert counts_from([], over_at) is None
    years = at(7 * 24 * 100 + 1, seen(160, 0.9))
    assert years.resets_at == RESET + 100 * WEEK
    assert at(7 * 24 + 1, seen(160, 0.9, length_s=None)).certainty == "unknown"


def test_a_person_says_when_it_resets_where_the_provider_does_not() -> None:
    quiet = seen(10, 0.2, reset_at=None)
    said = at(11, quiet, reset_by_user=RESET)
    assert (said.resets_at, said.certainty, said.used) == (RESET, "user", 0.2)
    # The provider knows better; and once that time is over, it is a guess.
    assert at(11, seen(10, 0.2), reset_by_user=RESET - DAY).resets_at == RESET
    after = at(7 * 24 + 2, quiet, reset_by_user=RESET)
    assert (after.resets_at, after.certainty, after.used) == (RESET + WEEK, "estimated", None)


@pytest.mark.parametrize(
    ("history", "kind", "used"),
    [
        ([seen(160, 0.9), seen(169, 0.01, reset_at=RESET + WEEK)], "reset", 0.01),
        ([seen(160, 0.9), seen(169, 0.01, reset_at=None)], "reset", 0.01),
        # One that begins with its first use.
        ([seen(10, 0.0, reset_at=BEGINS + 178 * HOUR), seen(169, 0.01, reset_at=RESET + WEEK)], "reset", 0.01),
        ([seen(60, 0.5), seen(169, 0.0, reset_at=BEGINS + 300 * HOUR)], "reset", 0.0),
        ([seen(160, 0.9), seen(168.5, 0.02, reset_at=RESET + 8 * DAY)], "reset", 0.02),
        ([seen(167, 0.5), seen(168.9, 0.0, reset_at=RESET + 3 * DAY)], "reset", 0.0),
        ([seen(168, 0.5), seen(168.9, 0.0, reset_at=None)], "reset", 0.0),
        ([seen(160, 0.6), seen(168.9, 0.1, reset_at=RESET + 4 * DAY)], "reset", 0.1),
        ([seen(165, 0.6), seen(168.9, 0.1, length_s=5 * HOUR, reset_at=RESET + 2 * HOUR)], "plan_change", 0.1),
        ([seen(165, 0.6), seen(168.9, 0.1, length_s=30 * DAY, reset_at=RESET + 9 * DAY)], "plan_change", 0.1),
    ],
)
def test_a_window_that_began_anew_is_told_from_the_one_before(
    history: list[QuotaSample], kind: str, used: float
) -> None:
    found = at(169, *history)
    assert found.used == pytest.approx(used)
    assert kinds(found) == [kind]
    assert found.events[0].at == history[-1].seen_at


def test_a_reset_before_its_time_is_told() -> None:
    moved = at(61, seen(60, 0.5), seen(61, 0.0, reset_at=RESET + 3 * DAY))
    assert (moved.used, kinds(moved)) == (0.0, ["early_reset"])
    same = at(61, seen(60, 0.5), seen(61, 0.01))
    assert (same.used, kinds(same)) == (0.01, ["early_reset"])
    # Nobody says when it ends, but it was seen to begin.
    unsaid = at(62, seen(60, 0.5, reset_at=None), seen(61, 0.01, reset_at=None))
    assert (unsaid.resets_at, unsaid.certainty) == (BEGINS + 61 * HOUR + WEEK, "estimated")


def test_what_comes_late_of_a_window_that_ended_before_its_time_does_not_end_the_new_one() -> None:
    """Else what a token is of it is learned from its use seeming to rise by half of it with no tokens."""
    new = RESET + 3 * DAY
    rows = [seen(10 * n, 0.05 * n) for n in range(1, 8)]
    rows += [seen(71, 0.01, reset_at=new, tokens=3.7e6), seen(71.5, 0.34, tokens=3.75e6)]
    rows += [seen(72, 0.02, reset_at=new, tokens=3.8e6), seen(73, 0.35, tokens=3.85e6)]
    found = at(73, *rows, spent=50_000)
    assert found.used == pytest.approx(0.025)
    assert counts_from(rows, BEGINS + 73 * HOUR) == BEGINS + 72 * HOUR
    assert found.resets_at == new
    assert kinds(found) == ["early_reset", "contradiction", "contradiction"]
    assert capacity(rows) == pytest.approx(RATE)
    word = seen(72.5, None, status="allowed", reset_at=new)
    assert counts_from([*rows, word], BEGINS + 73 * HOUR) == BEGINS + 72 * HOUR, "it says nothing of the use"
    # What goes on for longer is no observation that comes late.
    assert at(80, *rows, seen(80, 0.36)).used == pytest.approx(0.36)


def test_what_a_token_is_of_it_is_not_learned_from_steps_in_which_none_went_through() -> None:
    """Observations that are late rise after the tokens went through. The fleet stood still for weeks by such a rate."""
    rows = [seen(n / 2, 0.01 * n, tokens=2e5 * n) for n in range(1, 6)]
    rows += [seen(4, 0.06, tokens=1e6), seen(5, 0.12, tokens=1e6 + 100)]
    assert RATE / 2 < (capacity(rows) or 0) < 3 * RATE
    # What is used without us counts as ours, as far as that was seen.
    elsewhere = [seen(n, 0.05 * n, tokens=1e5 * n) for n in range(1, 11)]
    assert capacity(elsewhere) == pytest.approx(5 * RATE)


def test_near_the_beginning_of_a_window_a_lower_use_is_an_observation_that_is_late() -> None:
    found = at(3, seen(2, 0.07, tokens=7e5), seen(3, 0.01, tokens=7.5e5))
    assert found.used == pytest.approx(0.075)
    assert kinds(found) == ["jump_back"]


def test_an_observation_that_is_late_does_not_take_back_what_was_used() -> None:
    first, late = seen(60, 0.5, tokens=5e6), seen(61, 0.4, tokens=5.2e6)
    found = at(61, first, late, spent=100_000)
    assert found.used == pytest.approx(0.53)
    assert kinds(found) == ["jump_back"]
    # After a while it must be true.
    hours = 60 + late_by(WEEK) / HOUR + 1
    assert at(hours, first, seen(hours, 0.4)).used == pytest.approx(0.5)
    assert at(hours, first, *(seen(hours + n / 10 - 0.3, 0.4) for n in range(4))).used == pytest.approx(0.4)
    assert at(60 + 13, first, seen(60 + 13, 0.4)).used == pytest.approx(0.4)
    over = at(170, seen(169, 0.02, reset_at=RESET + WEEK), seen(169.5, 0.9))
    assert over.used == pytest.approx(0.02)
    assert kinds(over) == ["contradiction"]
    assert "late" in over.events[0].text


def test_rounding_and_the_jitter_of_clocks_are_nothing() -> None:
    found = at(61, seen(60, 0.41), seen(60.5, 0.4, reset_at=RESET + 60), seen(61, 0.41, reset_at=RESET - 59))
    assert found.events == ()
    assert found.used == pytest.approx(0.41, abs=0.011)
    assert at(61, seen(60, 0.41, length_s=10_079 * 60.0), seen(61, 0.42)).events == ()


def test_more_than_all_of_it_is_told_once() -> None:
    found = at(62, seen(60, 0.98), seen(61, 1.04), seen(62, 1.06))
    assert found.used == pytest.approx(1.06)
    assert [(event.kind, event.at) for event in found.events] == [("over", BEGINS + 61 * HOUR)]


def test_somebody_else_who_spends_is_noticed() -> None:
    ours = [seen(60, 0.5, tokens=5e6), seen(61, 0.56, tokens=5.5e6)]
    assert at(61, *ours).events == ()
    theirs = at(61, seen(60, 0.5, tokens=5e6), seen(61, 0.62, tokens=5.5e6))
    assert kinds(theirs) == ["contradiction"]
    assert "7.0 percent more" in theirs.events[0].text
    assert theirs.used == pytest.approx(0.62)
    # The line is drawn anew from there, once.
    now = BEGINS + 61 * HOUR
    before = at(60, ours[0]).window(key="account:main/7d", scope="account:main", per_token=RATE)
    window = theirs.window(key="account:main/7d", scope="account:main", per_token=RATE)
    line = redrawn(window, redrawn(before, None, now - 60, PacePolicy()), now, PacePolicy())
    assert line is not None
    assert line.cause == "observation"
    assert line.drawn_used == pytest.approx(0.62)
    assert redrawn(window, line, now + 60, PacePolicy()) is None


def test_a_clock_that_went_back_is_told_and_the_future_says_nothing() -> None:
    for ahead in (1, 365 * 24):
        found = at(60, seen(59, 0.3), seen(60 + ahead, 0.9))
        assert found.used == pytest.approx(0.3)
        assert kinds(found) == ["clock_skew"]
    assert at(60, seen(61, 0.9)).used is None
    many = (seen(365 * 24 + number / 60, 0.9) for number in range(200))
    assert at(60, seen(59, 0.3), *many).used == pytest.approx(0.3)


def test_a_rejection_counts_as_used_up() -> None:
    found = at(60, seen(59, 0.6, status="rejected"))
    assert (found.used, kinds(found)) == (1.0, ["contradiction"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_numbers_that_are_none_are_left_out(bad: float) -> None:
    history = [seen(59, 0.3), seen(60, bad, reset_at=bad, length_s=bad, tokens=bad)]
    for found in (at(60, *history), at(60, *history, spent=bad, reset_by_user=bad, length_s=bad), at(60, rate=bad)):
        assert found.used is None or 0 <= found.used <= 10
        assert found.resets_at in (None, RESET)
    rate = capacity(history)
    assert rate is None or 0 < rate < math.inf


ANY = st.none() | st.floats() | st.floats(0, 2) | st.floats(BEGINS - WEEK, BEGINS + 2 * WEEK)
ROWS = st.lists(
    st.builds(
        QuotaSample,
        account=st.just("main"),
        window=st.just("7d"),
        seen_at=st.floats() | st.floats(BEGINS - WEEK, BEGINS + 2 * WEEK),
        used=ANY,
        reset_at=ANY,
        length_s=st.sampled_from((None, WEEK, 5 * HOUR, 0.0, math.nan)),
        status=st.sampled_from((None, "allowed", "rejected")),
        tokens=ANY,
    ),
    max_size=6,
)


@given(ROWS, ANY, st.floats(BEGINS, BEGINS + 2 * WEEK), ANY, ANY)
def test_whatever_providers_say_it_is_read_the_same_each_time_and_can_be_paced(
    history: list[QuotaSample], spent: float | None, now: float, rate: float | None, said: float | None
) -> None:
    found = read(history, spent or 0.0, now, rate, said)
    assert found == read(list(reversed(history)), spent or 0.0, now, rate, said) or len(
        {row.seen_at for row in history}
    ) < len(history)
    assert found.resets_at is None or found.resets_at > now
    window = found.window(key="account:main/7d", scope="account:main", per_token=rate)
    policy = PacePolicy()
    line = redrawn(window, None, now, policy)
    assert line is not None
    now_at = WindowState(window=window, line=line)
    assert 0 <= admissible(now_at, "high", now, policy) <= 1
    decide([now_at], Cost(tokens=1e5), "normal", now, policy)


@pytest.mark.parametrize("rounding", [None, 0.01])
@pytest.mark.parametrize("late_s", [60.0, 3_600.0])
def test_what_a_token_is_of_a_window_is_learned_from_rounded_and_late_observations(
    rounding: float | None, late_s: float
) -> None:
    source = random.Random(f"{soak.seed()}/{rounding}/{late_s}")
    spent, history, truth = 0.0, [], [(BEGINS - WEEK, 0.0)]
    for minute in range(0, 6 * 24 * 60, 10):
        spent += source.choice((0, 0, 30_000, 5_000)) * 0.9
        truth.append((BEGINS + minute * 60, spent))
        if source.random() < 0.3:
            then = BEGINS + minute * 60 - source.random() * late_s
            used = RATE * max(tokens for when, tokens in truth if when <= then)
            shown = round(used / rounding) * rounding if rounding else used
            history.append(seen(minute / 60, shown, tokens=spent))
    assert spent * RATE > 0.5
    found = capacity(history)
    assert found == pytest.approx(RATE, rel=0.15)


def test_a_capacity_is_not_told_from_too_little_and_is_another_after_a_change_of_plan() -> None:
    assert capacity([]) is None
    assert capacity([seen(1, 0.1)]) is None
    assert capacity([seen(1, 0.1), seen(2, 0.105)]) is None
    small = [seen(hour, 0.1 * hour) for hour in range(6)]
    larger = [
        seen(10 + hour, 0.1 * hour, tokens=1e7 + hour * 5e6, length_s=30 * DAY, reset_at=BEGINS + 30 * DAY)
        for hour in range(6)
    ]
    assert capacity(small) == pytest.approx(RATE)
    assert capacity([*small, *larger]) == pytest.approx(RATE / 5)
