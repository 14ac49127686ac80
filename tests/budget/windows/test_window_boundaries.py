"""When budgets begin anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget.windows import window_boundaries

WINDOWS = ("day", "week", "month", "90m", "5h", "7d", "366d")


def _at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "now", "start", "end"),
    [
        ("day", "2026-11-21T23:59:59", "2026-11-21", "2026-11-22"),
        ("day", "2026-11-22T00:00:00", "2026-11-22", "2026-11-23"),
        ("week", "2026-11-22T12:00:00", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-23T00:00:00", "2026-11-23", "2026-11-30"),
        ("month", "2024-02-29T10:00:00", "2024-02-01", "2024-03-01"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("6h", "2026-11-22T07:30:00", "2026-11-22T06:00:00", "2026-11-22T12:00:00"),
        ("90m", "1970-01-01T01:29:59", "1970-01-01", "1970-01-01T01:30:00"),
    ],
)
def test_windows_begin_and_end_in_utc(window: str, now: str, start: str, end: str) -> None:
    assert window_boundaries.start_of(window, _at(now)) == _at(start)
    assert window_boundaries.end_of(window, _at(now)) == _at(end)


@settings(deadline=None)
@given(st.sampled_from(WINDOWS), st.floats(0, 4_000_000_000))
def test_windows_follow_one_another_without_gaps(window: str, now: float) -> None:
    start, end = window_boundaries.start_of(window, now), window_boundaries.end_of(window, now)
    assert end is not None
    assert start <= now < end
    assert window_boundaries.start_of(window, start) == start
    assert window_boundaries.start_of(window, end) == end
    assert window_boundaries.end_of(window, start) == end
    if window == "week":
        assert datetime.fromtimestamp(start, UTC).weekday() == 0
    if window == "month":
        assert datetime.fromtimestamp(end, UTC).day == 1
        assert timedelta(days=28) <= timedelta(seconds=end - start) <= timedelta(days=31)


def test_without_a_window_there_is_no_end() -> None:
    window_boundaries.check(None)
    assert window_boundaries.start_of(None, 5.0) == 0
    assert window_boundaries.end_of(None, 5.0) is None


@pytest.mark.parametrize("window", ["", "hour", "Day", "0h", "5", "5s", "-5h", "367d", "05h", "5h ", "5h\n", "99999d"])
def test_what_is_no_window_is_refused_with_the_way_out(window: str) -> None:
    with pytest.raises(ValueError, match="Write day, week or month"):
        window_boundaries.check(window)
    with pytest.raises(ValueError, match="Write day, week or month"):
        window_boundaries.end_of(window, 0.0)
