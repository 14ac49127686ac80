"""Moments as operators write and read them, in their own time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from bot.text import timestamps
from bot.text.errors import UsageError

VIENNA = ZoneInfo("Europe/Vienna")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-25 09:00", "2026-11-25T08:00"),
        ("2026-07-25 09:00", "2026-07-25T07:00"),
        ("2026-11-25T09:00:00Z", "2026-11-25T09:00"),
        ("2026-11-25T09:00:00+05:30", "2026-11-25T03:30"),
        # Twice on this night: the first of the two.
        ("2026-10-25 02:30", "2026-10-25T00:30"),
    ],
)
def test_a_moment_is_in_the_operators_zone_unless_it_says_another(text: str, utc: str) -> None:
    assert timestamps.read(text, VIENNA) == at(utc)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tomorrow", "Write it like 2026-11-25 09:00 (Europe/Vienna)"),
        ("25.11.2026 09:00", "is no moment"),
        ("", "is no moment"),
        ("2026-03-29 02:30", "clocks leave out 2026-03-29 02:30. Write 2026-03-29 03:30"),
        ("0001-01-01 00:00", "too far away"),
    ],
)
def test_what_is_no_moment_is_refused_with_the_way_out(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=r"moment|leave out|too far") as refused:
        timestamps.read(text, VIENNA)
    assert says in str(refused.value)


def test_a_moment_is_shown_as_short_as_it_is_clear() -> None:
    now = at("2026-11-22T10:00")
    assert timestamps.shown(at("2026-11-22T18:30"), VIENNA, now) == "19:30"
    # Past midnight in Vienna, though it is the same day in UTC.
    assert timestamps.shown(at("2026-11-22T23:30"), VIENNA, now) == "Mon 23 Nov 00:30"
    assert timestamps.shown(at("2026-11-25T08:00"), VIENNA, now) == "Wed 25 Nov 09:00"
    assert timestamps.shown(at("2027-11-25T08:00"), VIENNA, now) == "2027-11-25 09:00"
