"""A forecast of a window's usage at its reset, if work continues as before. Pure.

The rest of the window is split into days of the operator's zone. The forecast for a day is the weighted mean of similar
past days. Workdays and weekends are separate if both are known, and recent days count more. The band reflects how much
the days differed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from budget.windows.calendar_days import start_of_day
from budget.windows.even_spread_line import EvenSpreadLine, Window

#: The age in days at which a day's weight halves.
HALF_LIFE_DAYS = 7.0
#: The maximum age of days to use.
REMEMBERED_DAYS = 28
#: The minimum number of similar days to distinguish workdays from weekends.
_ALIKE = 2
#: The standard deviations on both sides that include nine tenths of a normal distribution.
_SPREAD = 1.645
#: The minimum deviation as a share of the expected usage, with fewer than `_FEW_DAYS` days.
_LEAST_SPREAD = 0.5
_FEW_DAYS = 3
_DAY = 86_400.0
_HOUR = 3_600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """The usage of one role in one hour."""

    at: float
    """The start of the hour, in seconds since the epoch."""
    role: str
    tokens: float
    """Weighted tokens."""
    usd: float | None = None
    """US dollars; None if the price is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Projection:
    """The forecast of a window's usage at its reset, in its unit. An amount beyond the limit is work that will wait."""

    expected: float
    low: float
    high: float
    """The upper end of the band; the usage is between `low` and `high` in nine of ten cases."""
    by_role: Mapping[str, float]
    """The expected additional usage of each role."""


def project(
    window: Window, line: EvenSpreadLine | None, history: Sequence[Use], now: float, *, zone: ZoneInfo
) -> Projection | None:
    """Forecast the usage of a window at its reset.

    Args:
        window: the window.
        line: the current line. If the usage is unknown, it is the usage when the line was drawn plus the usage since.
        history: the hourly usage of the window's scope; hours older than `REMEMBERED_DAYS` are ignored.
        now: seconds since the epoch.
        zone: the time zone that separates the days.

    Returns:
        The forecast, or None if the window is over or its reset or usage is unknown. A window in shares also needs a
        known share per token.
    """
    resets_at = window.resets_at
    if resets_at is None or resets_at <= now or not math.isfinite(resets_at):
        return None
    amounts = [(each.at, each.role, amount) for each in history if (amount := amount_in(each, window)) is not None]
    used = window.known_use
    if used is None and line is not None:
        used = line.drawn_used + sum(amount for at, _, amount in amounts if line.drawn_at <= at <= now)
    if used is None or (window.unit == "share" and window.per_token is None):
        return None
    past = _days(amounts, now, zone)
    total, spread = used, 0.0
    each_role: dict[str, float] = defaultdict(float)
    for day, begin, end in _pieces(now, resets_at, zone):
        share = (end - begin) / _DAY
        mean, deviation, by_role = _expected(past, day)
        total += mean * share
        # The differences between days and the uncertainty of their mean both widen the band.
        spread += (deviation * share) ** 2 if share >= 1 else deviation**2 * share
        for role, amount in by_role.items():
            each_role[role] += amount * share
    band = _SPREAD * math.sqrt(spread)
    return Projection(expected=total, low=max(used, total - band), high=total + band, by_role=dict(each_role))


@dataclass(frozen=True, kw_only=True, slots=True)
class _PastDay:
    day: date
    weight: float
    by_role: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.by_role.values())


def amount_in(use: Use, window: Window) -> float | None:
    """Return the usage in the window's unit, or None if it is unknown."""
    if window.unit == "usd":
        return use.usd
    if window.unit == "share":
        return None if window.per_token is None else use.tokens * window.per_token
    return use.tokens


def _days(amounts: Sequence[tuple[float, str, float]], now: float, zone: ZoneInfo) -> list[_PastDay]:
    """Return the days since the first one with usage, including days without.

    Today counts once a quarter of it is over, or if it is the only day. Its usage is scaled up to a whole day.
    """
    today = datetime.fromtimestamp(now, zone).date()
    first = today - timedelta(days=REMEMBERED_DAYS)
    found: dict[date, dict[str, float]] = {}
    for at, role, amount in amounts:
        if at > now or not 0 <= amount < math.inf:
            continue
        day = datetime.fromtimestamp(at, zone).date()
        if day >= first:
            roles = found.setdefault(day, {})
            roles[role] = roles.get(role, 0.0) + amount
    if not found:
        return []
    made: list[_PastDay] = []
    day = min(found)
    while day <= today:
        known = min(1.0, (now - start_of_day(day, zone)) / _DAY)
        if known >= 0.25 or (day == today and len(found) == 1):
            share = max(known, 1 / 24)
            made.append(
                _PastDay(
                    day=day,
                    weight=share * 0.5 ** ((today - day).days / HALF_LIFE_DAYS),
                    by_role={role: amount / share for role, amount in found.get(day, {}).items()},
                )
            )
        day += timedelta(days=1)
    return made


def _expected(past: Sequence[_PastDay], day: date) -> tuple[float, float, Mapping[str, float]]:
    """Return the expected usage of a day, its standard deviation, and the usage by role."""
    alike = [each for each in past if (each.day.weekday() >= 5) == (day.weekday() >= 5)]
    chosen = alike if len(alike) >= _ALIKE else past
    weight = sum(each.weight for each in chosen)
    if not weight:
        return 0.0, 0.0, {}
    by_role: dict[str, float] = defaultdict(float)
    for each in chosen:
        for role, amount in each.by_role.items():
            by_role[role] += amount * each.weight / weight
    mean = sum(by_role.values())
    variance = sum(each.weight * (each.total - mean) ** 2 for each in chosen) / weight
    # The error of a mean of n days is the deviation divided by the root of n.
    count = weight**2 / sum(each.weight**2 for each in chosen)
    deviation = math.sqrt(variance * (1 + 1 / count))
    if len(chosen) < _FEW_DAYS:
        deviation = max(deviation, _LEAST_SPREAD * mean)
    return mean, deviation, dict(by_role)


def _pieces(now: float, until: float, zone: ZoneInfo) -> list[tuple[date, float, float]]:
    """Return the days between two moments, each with its start and end; at most one year."""
    made: list[tuple[date, float, float]] = []
    begin = now
    while begin < until and len(made) < 366:
        day = datetime.fromtimestamp(begin, zone).date()
        end = min(until, max(begin + 1.0, start_of_day(day + timedelta(days=1), zone)))
        made.append((day, begin, end))
        begin = end
    return made
