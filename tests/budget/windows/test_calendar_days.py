"""Days begin at the operator's midnight, also when clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from budget.windows.calendar_days import midnight, start_of_day

VIENNA = ZoneInfo("Europe/Vienna")


def at(text: str, zone: ZoneInfo = VIENNA) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("moment", "days", "begins"),
    [
        ("2026-11-25 00:00", 0, "2026-11-25 00:00"),
        ("2026-11-25 23:59", 0, "2026-11-25 00:00"),
        ("2026-11-25 12:00", -1, "2026-11-24 00:00"),
        ("2026-11-25 12:00", 1, "2026-11-26 00:00"),
        # A day of 25 hours, and one of 23.
        ("2026-10-26 12:00", -1, "2026-10-25 00:00"),
        ("2026-03-30 01:00", -1, "2026-03-29 00:00"),
    ],
)
def test_the_day_of_a_moment(moment: str, days: int, begins: str) -> None:
    assert midnight(at(moment), VIENNA, days=days) == at(begins)


def test_a_day_whose_midnight_clocks_skip_begins_with_the_change() -> None:
    # In São Paulo, clocks went from 0:00 to 1:00 on that day.
    began = datetime(2018, 11, 4, 3, tzinfo=UTC).timestamp()
    assert start_of_day(date(2018, 11, 4), ZoneInfo("America/Sao_Paulo")) == began
