"""A bot says no more than the server allows, learns what that is, and keeps room for what is urgent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract.messages import Priority
from connectors.delivery.send_rate_limiter import SendRateLimiter


def spend_all(pace: SendRateLimiter, priority: Priority, now: float) -> int:
    """How many of this urgency go out at once."""
    count = 0
    while pace.allows(priority, now) and count < 1000:
        pace.spend(now)
        count += 1
    return count


def test_without_a_known_limit_everything_goes() -> None:
    assert spend_all(SendRateLimiter(None, 10, 0.0), Priority.PROGRESS, 0.0) == 1000


def test_the_burst_goes_at_once_and_then_the_rate_holds() -> None:
    pace = SendRateLimiter(0.2, 10, 0.0)
    assert spend_all(pace, Priority.REPLY, 0.0) == 10
    assert pace.next_at(Priority.REPLY, 0.0) == pytest.approx(5.0)
    assert spend_all(pace, Priority.REPLY, 5.0) == 1
    assert spend_all(pace, Priority.REPLY, 9.9) == 0


def test_progress_leaves_room_for_replies_and_approvals() -> None:
    pace = SendRateLimiter(0.2, 10, 0.0)
    assert spend_all(pace, Priority.PROGRESS, 0.0) == 5
    assert spend_all(pace, Priority.RECEIPT, 0.0) == 2
    assert spend_all(pace, Priority.FINAL, 0.0) == 2
    assert spend_all(pace, Priority.REPLY, 0.0) == 1


def test_progress_alone_goes_at_the_full_rate() -> None:
    pace = SendRateLimiter(0.2, 10, 0.0)
    sent = sum(spend_all(pace, Priority.PROGRESS, float(second)) for second in range(1001))
    assert sent == 5 + 200


@pytest.mark.parametrize("priority", list(Priority))
def test_even_a_burst_of_one_lets_everything_through_in_time(priority: Priority) -> None:
    pace = SendRateLimiter(1.0, 1, 0.0)
    assert spend_all(pace, priority, 0.0) == 1
    assert spend_all(pace, priority, 1.0) == 1


def test_a_refusal_pauses_everything_for_as_long_as_the_server_asks() -> None:
    pace = SendRateLimiter(None, 10, 0.0)
    pace.refused(100.0, 5.0)
    assert not pace.allows(Priority.APPROVAL, 104.9)
    assert spend_all(pace, Priority.APPROVAL, 105.0) == 1
    assert pace.rate == pytest.approx(0.2)


def test_a_refusal_without_a_time_pauses_longer_each_time() -> None:
    pace = SendRateLimiter(None, 10, 0.0)
    pauses = []
    now = 0.0
    for _ in range(3):
        pace.refused(now, None)
        pauses.append(pace.paused_until - now)
        now = pace.paused_until
    assert pauses == [2.0, 4.0, 8.0]


def test_refusals_of_what_was_under_way_together_count_once() -> None:
    pace = SendRateLimiter(10.0, 10, 0.0)
    for _ in range(8):
        pace.refused(0.0, 1.0)
    assert pace.rate == pytest.approx(5.0)


def test_the_rate_recovers_slowly_up_to_what_was_declared() -> None:
    pace = SendRateLimiter(1.0, 10, 0.0)
    pace.refused(0.0, 1.0)
    assert pace.rate == pytest.approx(0.8)
    pace.taken(59.0)
    assert pace.rate == pytest.approx(0.8)
    for minute in range(1, 10):
        pace.taken(60.0 * minute)
    assert pace.rate == pytest.approx(1.0)


def test_a_learned_limit_is_forgotten_when_it_no_longer_shows() -> None:
    pace = SendRateLimiter(None, 10, 0.0)
    pace.refused(0.0, 1.0)
    for minute in range(1, 60):
        pace.taken(61.0 * minute)
    assert pace.rate is None


def test_a_server_that_asks_for_days_is_asked_again_sooner() -> None:
    pace = SendRateLimiter(None, 10, 0.0)
    pace.refused(0.0, 1e9)
    assert pace.paused_until <= 600.0


def test_a_clock_that_is_set_back_does_not_silence_the_bot() -> None:
    pace = SendRateLimiter(None, 10, 0.0)
    pace.refused(1e6, 60.0)
    assert pace.next_at(Priority.REPLY, 0.0) <= 600.0


@given(
    rate=st.floats(0.05, 50),
    burst=st.integers(1, 50),
    steps=st.lists(st.tuples(st.floats(0, 30), st.sampled_from(Priority)), max_size=60),
)
def test_never_more_than_the_burst_and_the_rate(rate: float, burst: int, steps: list[tuple[float, Priority]]) -> None:
    pace = SendRateLimiter(rate, burst, 0.0)
    now = 0.0
    sent = 0
    for wait, priority in steps:
        now += wait
        if pace.allows(priority, now):
            pace.spend(now)
            sent += 1
        assert sent <= burst + rate * now + 1e-3
        assert pace.next_at(priority, now) - now <= burst / rate + 1e-3
