"""Where the use of a window will stand at its reset, if work goes on as it did. Pure.

What is left of the window is cut into days of the operator's zone. A day is expected to bring what days like it have
brought, workdays and weekends apart where both are known, recent ones more. The band is as wide as days have differed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    from budget.windows.even_spread_line import EvenSpreadLine, Window

#: A day so long ago counts half as much as yesterday.
HALF_LIFE_DAYS = 7.0
#: Days further back are left out.
REMEMBERED_DAYS = 28
#: So many days like it are needed to tell workdays from weekends.
_ALIKE = 2
#: Nine tenths of what is spread normally lies within so many standard deviations of both sides.
_SPREAD = 1.645
#: With fewer days the band is at least this share of what is expected.
_LEAST_SPREAD = 0.5
_FEW_DAYS = 3
_DAY = 86_400.0
_HOUR = 3_600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """What one role used in one hour."""

    at: float
    """When the hour began, in seconds since the epoch."""
    role: str
    tokens: float
    """Weighted."""
    usd: float | None = None
    """None: no price is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """One day, or what of it lies before the reset, in the window's unit."""

    day: date
    ends_at: float
    expected: float
    """What this day will bring."""
    by_role: Mapping[str, float]
    total: float
    """What will have been used at its end."""
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Projection:
    """Use of a window at its reset, in its unit. Nothing is cut at the limit: what passes it is work that will wait."""

    window: str
    now: float
    resets_at: float
    used: float
    expected: float
    low: float
    high: float
    """Nine times of ten it will be between `low` and `high`."""
    by_day: tuple[Day, ...]
    by_role: Mapping[str, float]
    """What each role will still use."""
    days: int
    """Days that this rests on."""
    runs_out_at: float | None
    """When the limit is reached, if it is before the reset."""

    @property
    def basis(self) -> str:
        """What it rests on, for people."""
        return f"the use of {self.days} {'day' if self.days == 1 else 'days'}" if self.days else "no use so far"


def project(
    window: Window, line: EvenSpreadLine | None, history: Sequence[Use], now: float, *, zone: ZoneInfo
) -> Projection | None:
    """Return where the use of a window will stand at its reset.

    Args:
        window: whose use.
        line: that stands; where what is used is not known, it is taken from where the line was drawn, and what came
            since.
        history: what was used of the window's scope, hour by hour; older than `REMEMBERED_DAYS` is left out.
        now: seconds since the epoch.
        zone: whose midnights part the days.

    Returns:
        None where nothing can be said: its reset, its use or, of a share, what a token is of it, is not known; or it
        is over.
    """
    resets_at = window.resets_at
    if resets_at is None or resets_at <= now or not math.isfinite(resets_at):
        return None
    amounts = [(each.at, each.role, amount) for each in history if (amount := _amount(each, window)) is not None]
    used = window.known_use
    if used is None and line is not None:
        used = line.drawn_used + sum(amount for at, _, amount in amounts if line.drawn_at <= at <= now)
    if used is None or (window.unit == "share" and window.per_token is None):
        return None
    past = _days(amounts, now, zone)
    days: list[Day] = []
    total, spread = used, 0.0
    each_role: dict[str, float] = defaultdict(float)
    runs_out_at = now if used >= window.limit else None
    for day, begin, end in _pieces(now, resets_at, zone):
        share = (end - begin) / _DAY
        mean, deviation, by_role = _expected(past, day)
        if runs_out_at is None and mean > 0 and total + mean * share >= window.limit:
            runs_out_at = min(end, begin + (window.limit - total) / mean * _DAY)
        total += mean * share
        # Days differ by themselves, and the mean of a few of them is none too sure: both widen the band.
        spread += (deviation * share) ** 2 if share >= 1 else deviation**2 * share
        band = _SPREAD * math.sqrt(spread)
        for role, amount in by_role.items():
            each_role[role] += amount * share
        days.append(
            Day(
                day=day,
                ends_at=end,
                expected=mean * share,
                by_role={role: amount * share for role, amount in by_role.items()},
                total=total,
                low=max(used, total - band),
                high=total + band,
            )
        )
    last = days[-1]
    return Projection(
        window=window.key,
        now=now,
        resets_at=resets_at,
        used=used,
        expected=last.total,
        low=last.low,
        high=last.high,
        by_day=tuple(days),
        by_role=dict(each_role),
        days=len(past),
        runs_out_at=runs_out_at,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _PastDay:
    day: date
    weight: float
    by_role: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.by_role.values())


def _amount(use: Use, window: Window) -> float | None:
    """In the window's unit."""
    if window.unit == "usd":
        return use.usd
    if window.unit == "share":
        return None if window.per_token is None else use.tokens * window.per_token
    return use.tokens


def _days(amounts: Sequence[tuple[float, str, float]], now: float, zone: ZoneInfo) -> list[_PastDay]:
    """Days from the first on that brought something, those that brought nothing among them; today only once a quarter
    of it is over, or where there is no other, and then brought up to a whole day."""
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
        known = min(1.0, (now - _midnight(day, zone)) / _DAY)
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
    """Return what a day brings: its mean, by how much days differ from that, and what each role has of it."""
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
    # A mean of n days is itself off by a deviation over the root of n.
    count = weight**2 / sum(each.weight**2 for each in chosen)
    deviation = math.sqrt(variance * (1 + 1 / count))
    if len(chosen) < _FEW_DAYS:
        deviation = max(deviation, _LEAST_SPREAD * mean)
    return mean, deviation, dict(by_role)


def _pieces(now: float, until: float, zone: ZoneInfo) -> list[tuple[date, float, float]]:
    """Return the days between two moments, each with its beginning and end; of very long windows only the first
    year."""
    made: list[tuple[date, float, float]] = []
    begin = now
    while begin < until and len(made) < 366:
        day = datetime.fromtimestamp(begin, zone).date()
        end = min(until, max(begin + 1.0, _midnight(day + timedelta(days=1), zone)))
        made.append((day, begin, end))
        begin = end
    return made


def _midnight(day: date, zone: ZoneInfo) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
