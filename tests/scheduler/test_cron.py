"""Schedules as operators write them, against a plain enumeration of the minutes that a wall clock shows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.cron import Cron, CronError, next_after, previous_before

BERLIN = ZoneInfo("Europe/Berlin")

#: With changes at night, at midnight, by half an hour, by a day, and none.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Nuuk",
)


def _shown_by(zone: ZoneInfo, first: date, last: date) -> dict[datetime, float]:
    """When each minute of these days is there for the first time, as somebody who watches the clock would note it:
    minutes that the clock leaves out are noted when it has left them out."""
    seen: dict[datetime, float] = {}
    at = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(days=2)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=2)
    latest: datetime | None = None
    while at <= end:
        wall = at.astimezone(zone).replace(tzinfo=None, fold=0)
        if latest is None:
            latest = wall - timedelta(minutes=1)
        while latest < wall:
            latest += timedelta(minutes=1)
            seen[latest] = at.timestamp()
        at += timedelta(minutes=1)
    return seen


def _plainly(expression: str, wall: datetime) -> bool:
    """Whether a minute fits, by a reading of the fields that knows lists of numbers and stars alone."""
    minute, hour, day, month, weekday = (
        None if word == "*" else {int(each) for each in word.split(",")} for word in expression.split()
    )
    of_month = day is None or wall.day in day
    of_week = weekday is None or wall.isoweekday() % 7 in {each % 7 for each in weekday}
    fits = of_month or of_week if day is not None and weekday is not None else of_month and of_week
    return (
        fits
        and (minute is None or wall.minute in minute)
        and (hour is None or wall.hour in hour)
        and (month is None or wall.month in month)
    )


def _some(first: int, last: int) -> st.SearchStrategy[str]:
    numbers = st.lists(st.integers(first, last), min_size=1, max_size=4, unique=True)
    return numbers.map(lambda each: ",".join(map(str, each)))


def _lines() -> st.SearchStrategy[str]:
    every = st.just("*")
    # Clocks are set at night.
    hours = st.one_of(every, _some(0, 4), _some(0, 23))
    fields = (_some(0, 59), hours, every | _some(1, 28), every, every | _some(0, 7))
    return st.tuples(*fields).map(" ".join)


def _around_a_change(zone: ZoneInfo, year: int, rank: int) -> date:
    """A day of that year on which the clock is set, or any when it is not."""
    days = [date(year, 1, 1) + timedelta(days=number) for number in range(365)]
    noons = [datetime(day.year, day.month, day.day, 12, tzinfo=zone) for day in days]
    changes = [
        day
        for day, noon, before in zip(days[1:], noons[1:], noons, strict=False)
        if noon.utcoffset() != before.utcoffset()
    ]
    return changes[rank % len(changes)] if changes else days[rank % 365]


@settings(max_examples=40, deadline=None)
@given(
    line=_lines(),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    year=st.sampled_from((1999, 2011, 2015, 2018, 2023, 2026, 2037)),
    rank=st.integers(0, 364),
)
def test_it_is_due_when_somebody_who_watches_the_clock_would_say(
    line: str, zone: ZoneInfo, year: int, rank: int
) -> None:
    day = _around_a_change(zone, year, rank)
    cron = Cron(line, zone)
    shown = _shown_by(zone, day - timedelta(days=1), day + timedelta(days=1))
    first, last = min(shown.values()), max(shown.values())
    due = sorted({at for wall, at in shown.items() if _plainly(line, wall) and first < at < last})

    found, at = [], first
    while (at := next_after(cron, at)) < last:
        found.append(at)
    assert found == due
    found, at = [], last
    while (at := previous_before(cron, at)) > first:
        found.append(at)
    assert found == due[::-1]


@pytest.mark.parametrize(
    ("line", "days"),
    [
        ("0 9 * * 1-5", "mon tue wed thu fri"),
        ("0 9 * * mon-fri", "mon tue wed thu fri"),
        ("0 9 * * MON-Fri", "mon tue wed thu fri"),
        ("0 9 * * 0", "sun"),
        ("0 9 * * 7", "sun"),
        ("0 9 * * sun", "sun"),
        ("0 9 * * 1", "mon"),
        ("0 9 * * 6,0", "sat sun"),
        ("0 9 * * 5-7", "fri sat sun"),
        ("0 9 * * sat-sun", "sat sun"),
        ("0 9 * * fri-mon", "mon fri sat sun"),
        ("0 9 * * sun-tue", "mon tue sun"),
        ("0 9 * * */2", "tue thu sat sun"),
        ("0 9 * * 1-5/2", "mon wed fri"),
        ("0 9 * * *", "mon tue wed thu fri sat sun"),
    ],
)
def test_days_of_the_week_are_counted_as_in_a_crontab(line: str, days: str) -> None:
    first, *others = days.split()
    found = _days(line, "2026-11-22T12:00", len(others) + 2)
    assert [f"{datetime.fromisoformat(day):%a}".lower() for day in found] == [first, *others, first]


def _days(line: str, since: str, number: int) -> list[str]:
    cron, at, found = Cron(line, BERLIN), datetime.fromisoformat(since).replace(tzinfo=BERLIN).timestamp(), []
    for _ in range(number):
        at = next_after(cron, at)
        found.append(f"{datetime.fromtimestamp(at, BERLIN):%Y-%m-%d %H:%M}")
    return found


def test_a_time_that_the_clock_leaves_out_comes_when_it_is_put_forward_and_one_that_it_shows_twice_comes_once() -> None:
    assert _days("30 2 * * *", "2026-03-28", 3) == ["2026-03-28 02:30", "2026-03-29 03:00", "2026-03-30 02:30"]
    assert _days("30 2 * * *", "2026-10-24", 3) == ["2026-10-24 02:30", "2026-10-25 02:30", "2026-10-26 02:30"]
    assert next_after(Cron("30 2 * * *", BERLIN), datetime(2026, 10, 25, tzinfo=BERLIN).timestamp()) == (
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
    )


def test_days_that_are_rare_are_found_and_the_last_of_a_month_has_a_letter() -> None:
    assert _days("0 0 29 2 *", "2026-01-01", 2) == ["2028-02-29 00:00", "2032-02-29 00:00"]
    assert _days("0 0 29 2 *", "2096-03-01", 1) == ["2104-02-29 00:00"]
    assert _days("0 0 29 2 */6", "2026-01-01", 1) == ["2032-02-29 00:00"]
    assert _days("0 0 L * *", "2028-01-15", 3) == ["2028-01-31 00:00", "2028-02-29 00:00", "2028-03-31 00:00"]
    assert _days("0 0 13 * fri", "2026-11-10", 2) == ["2026-11-13 00:00", "2026-11-20 00:00"]
    assert _days("@weekly", "2026-11-10", 1) == ["2026-11-15 00:00"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "it has 0 fields. Write five fields"),
        ("0 9 * *", "'0 9 * *' is no schedule: it has 4 fields. Write five fields"),
        ("0 0 9 * * mon", "it has 6 fields"),
        ("@yearly", "Short forms: @hourly, @daily"),
        ("60 9 * * *", "the minute '60' is out of range. Allowed are 0 to 59"),
        ("0 24 * * *", "the hour '24' is out of range. Allowed are 0 to 23"),
        ("0 9 0 * *", "the day of the month '0' is out of range. Allowed are 1 to 31"),
        ("0 9 * 13 *", "the month '13' is out of range. Allowed are 1 to 12 and jan, feb"),
        ("0 9 * * 8", "the day of the week '8' is out of range. Allowed are 0 to 7 and sun, mon"),
        ("0 9 * * monday", "the day of the week 'monday' is out of range"),
        ("0 9 * * mon..fri", "the day of the week 'mon..fri' cannot be read"),
        ("0 9 * * L", "the day of the week 'l' is out of range"),
        ("0 9 ? * *", "the day of the month '?' cannot be read"),
        ("0 22-6 * * *", "the hour '22-6' runs backwards; write 22-23,0-6"),
        ("5/15 * * * *", "has a step and no end; write 5-59/15"),
        ("*/0 * * * *", "has a step of 0"),
        ("-5 * * * *", "cannot be read"),
        ("0 9 * * 1,", "the day of the week '' cannot be read"),
        ("0 0 30 2 *", "there is no such day of the month in that month"),
        ("0 0 31 apr,jun *", "L is the last day of a month"),
        ("٣ 9 * * *", "cannot be read"),
        ("9" * 5000 + " * * * *", "9..."),
        ("0," * 100 + "0 9 * * *", "it has 209 characters, and 200 are allowed"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_field_and_what_is_allowed(line: str, says: str) -> None:
    with pytest.raises(CronError) as refusal:
        Cron(line, BERLIN)
    assert says in str(refusal.value)
    assert len(str(refusal.value)) < 500


@given(st.text(max_size=40))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        cron = Cron(text, BERLIN)
    except CronError:
        return
    assert previous_before(cron, 1.8e9) < 1.8e9 < next_after(cron, 1.8e9)


def test_a_schedule_says_in_words_when_it_comes() -> None:
    assert str(Cron("0 9 * * mon-fri", BERLIN)) == "09:00, mon-fri (Europe/Berlin)"
    assert str(Cron("5 17 * * 1-5", BERLIN)) == "17:05, mon-fri (Europe/Berlin)"
    assert str(Cron("0 9 * * *", BERLIN)) == "09:00, daily (Europe/Berlin)"
    assert str(Cron("*/5 * * * *", BERLIN)) == "*/5 * * * * (Europe/Berlin)"
