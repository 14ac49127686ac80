"""The begin of days in a time zone. Pure; times are seconds since the epoch.

Windows of Muster's own limits count days in UTC (`budget.windows.window_boundaries`). Everything else, such as *today*
in a view or the day of a report, follows the operator's time zone.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo


def start_of_day(day: date, zone: tzinfo) -> float:
    """Return when a day begins; if a clock change skips its midnight, the time of that change."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp()


def midnight(at: float, zone: tzinfo, *, days: int = 0) -> float:
    """Return when the day of `at` began, or the day that is `days` later; negative: earlier."""
    return start_of_day(datetime.fromtimestamp(at, zone).date() + timedelta(days=days), zone)
