"""Where the use of a window will stand at its reset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget.windows.even_spread_line import EvenSpreadLine, Window
from budget.windows.usage_forecast import Projection, Use, project

VIENNA = ZoneInfo("Europe/Vienna")
DAY, HOUR = 86_400.0, 3_600.0


def _at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=VIENNA).timestamp()


#: A Monday.
MONDAY = _at("2026-06-15T00:00")


def _window(*, used: float | None = 0.0, limit: float = 1000.0, days: float = 7.0) -> Window:
    return Window(
        key="host/tokens/week", scope="host", unit="tokens", limit=limit, used=used, resets_at=MONDAY + days * DAY
    )


def _days(*amounts: float, role: str = "coder", until: float = MONDAY) -> list[Use]:
    """So much on each of the days before that, each at ten in the morning."""
    first = until - len(amounts) * DAY
    return [Use(at=first + n * DAY + 10 * HOUR, role=role, tokens=each) for n, each in enumerate(amounts)]


def _project(
    window: Window, history: Sequence[Use], now: float = MONDAY, line: EvenSpreadLine | None = None
) -> Projection:
    found = project(window, line, history, now, zone=VIENNA)
    assert found is not None
    return found


def test_work_that_goes_on_as_before_comes_to_as_much() -> None:
    found = _project(_window(), _days(*[100.0] * 14))
    assert found.expected == pytest.approx(700)
    assert [found.low, found.high] == pytest.approx([700, 700]), "no day was ever different"


def test_weekends_are_told_from_workdays() -> None:
    week = (100.0, 100.0, 100.0, 100.0, 100.0, 0.0, 0.0)
    found = _project(_window(), _days(*week, *week))
    assert found.expected == pytest.approx(500)


def test_what_passes_the_limit_is_told_too() -> None:
    assert _project(_window(limit=250.0), _days(*[100.0] * 14)).expected == pytest.approx(700)


def test_each_role_has_its_part() -> None:
    found = _project(_window(), _days(*[60.0] * 14) + _days(*[40.0] * 14, role="research"))
    assert found.by_role == {"coder": pytest.approx(420), "research": pytest.approx(280)}


def test_days_that_differ_widen_the_band_and_recent_ones_count_more() -> None:
    steady, wild = _project(_window(), _days(*[100.0] * 14)), _project(_window(), _days(*[20.0, 180.0] * 7))
    assert wild.high - wild.low > steady.high - steady.low + 100
    assert wild.low < wild.expected < wild.high
    growing = _project(_window(), _days(*[0.0] * 7, *[100.0] * 7))
    assert growing.expected > 7 * 55


def test_what_is_used_already_is_the_least_that_it_will_be() -> None:
    found = _project(_window(used=400.0), _days(*[20.0, 180.0] * 7), now=MONDAY + 6.5 * DAY)
    assert found.low >= 400
    assert found.expected < 400 + 180


def test_the_first_day_is_a_guess_with_a_wide_band() -> None:
    now = MONDAY + 12 * HOUR
    found = _project(_window(used=100.0), [Use(at=MONDAY + 10 * HOUR, role="coder", tokens=100.0)], now)
    assert found.expected == pytest.approx(100 + 6.5 * 200)
    assert found.low < 0.8 * found.expected
    assert found.high > 1.2 * found.expected
    assert _project(_window(), [], now).expected == 0


def test_what_is_not_known_is_taken_from_the_line_and_what_came_since() -> None:
    line = EvenSpreadLine(
        window="x", drawn_at=MONDAY, drawn_used=300.0, limit=1000.0, resets_at=MONDAY + 7 * DAY, cause="midnight"
    )
    now = MONDAY + 12 * HOUR
    history = [*_days(*[100.0] * 14), Use(at=MONDAY + HOUR, role="coder", tokens=50.0)]
    assert _project(_window(used=None), history, now, line) == _project(_window(used=350.0), history, now)
    assert project(_window(used=None), None, history, now, zone=VIENNA) is None


def test_where_nothing_can_be_said_nothing_is() -> None:
    history = _days(*[100.0] * 14)
    over = _window(days=-1)
    assert project(over, None, history, MONDAY, zone=VIENNA) is None
    share = Window(key="a", scope="account:main", unit="share", limit=1.0, used=0.5, resets_at=MONDAY + DAY)
    assert project(share, None, history, MONDAY, zone=VIENNA) is None
    endless = Window(key="a", scope="host", unit="tokens", limit=1.0, used=0.5)
    assert project(endless, None, history, MONDAY, zone=VIENNA) is None


def test_shares_and_money_are_counted_as_such() -> None:
    share = Window(
        key="a", scope="account:main", unit="share", limit=1.0, used=0.1, resets_at=MONDAY + 5 * DAY, per_token=0.001
    )
    assert _project(share, _days(*[100.0] * 14)).expected == pytest.approx(0.6)
    usd = Window(key="a", scope="host", unit="usd", limit=50.0, used=1.0, resets_at=MONDAY + 5 * DAY)
    priced = [Use(at=each.at, role="coder", tokens=5e6, usd=2.0) for each in _days(*[1.0] * 14)]
    unpriced = _days(*[1e9] * 14)
    assert _project(usd, priced + unpriced).expected == pytest.approx(11.0)


def test_days_are_the_operators_also_when_clocks_are_set() -> None:
    until = _at("2026-10-27T00:00")  # the 25th has 25 hours
    window = Window(key="a", scope="host", unit="tokens", limit=1e9, used=0.0, resets_at=until)
    now = _at("2026-10-24T00:00")
    found = _project(window, _days(*[100.0] * 14, until=now), now)
    assert found.expected == pytest.approx(100 * (24 + 25 + 24) / 24)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-40, 2), st.sampled_from(("a", "b")), st.floats(0, 1e9)), max_size=60),
    st.floats(0, 1e9),
    st.floats(0.01, 40),
    st.floats(0, 1),
)
def test_the_band_holds_what_is_expected_and_what_is_used(
    uses: list[tuple[float, str, float]], used: float, days: float, into_the_day: float
) -> None:
    now = MONDAY + into_the_day * DAY
    history = [Use(at=now + ago * DAY, role=role, tokens=tokens) for ago, role, tokens in uses]
    window = Window(key="a", scope="host", unit="tokens", limit=1e9, used=used, resets_at=now + days * DAY)
    found = _project(window, history, now)
    assert 0 <= used <= found.low <= found.expected <= found.high < math.inf
    assert sum(found.by_role.values()) == pytest.approx(found.expected - used, rel=1e-6, abs=1e-3)
