"""Windows of limits as charts, and as the table that says the same. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from bot.figures.model import Figure, Panel, printable
from bot.figures.palette import PAGE
from bot.figures.window_chart import window_chart
from bot.read_models.limits import LimitsModel, WindowPace

_DAY: Final = 86_400.0
#: The most that a chart draws, as a multiple of the limit, and ticks of its time axis.
_TOP: Final = 1.5
_TICKS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowShown:
    """A window with its chart."""

    window: WindowPace
    chart: Markup | None
    """None: its time or its use is not known."""


def window_shown(window: WindowPace, limits: LimitsModel) -> WindowShown:
    """Return a window with its chart."""
    begin, end = window.begins_at, window.resets_at
    drawable = window.least is not None and window.limit > 0 and begin is not None and end is not None
    if not drawable or begin is None or end is None or not begin < limits.at < end:
        return WindowShown(window=window, chart=None)
    panel = _panel(window, begin, end, limits.at, ZoneInfo(limits.zone))
    # It is made of numbers and of words that the figure escapes.
    return WindowShown(window=window, chart=Markup(window_chart(Figure(panels=[panel]), PAGE)))  # noqa: S704


def _panel(window: WindowPace, begin: float, end: float, now: float, zone: ZoneInfo) -> Panel:
    least = window.least or 0.0

    def percent(amount: float) -> float:
        return round(100 * min(_TOP, max(0.0, amount / window.limit)), 2)

    def drawn(curve: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(min(max(at, begin), end) - begin, percent(amount)) for at, amount in curve]

    found = window.projection
    band = None
    if found is not None and found.low is not None and found.expected is not None and found.high is not None:
        band = (percent(found.low), percent(found.expected), percent(found.high))
    used = drawn((at, amount) for at, amount in window.use if begin <= at <= now)
    used_words = (
        f"{least / window.limit:.0%} used" if window.used is not None else f"at least {least / window.limit:.0%}"
    )
    line = "" if window.line is None else f", line {window.line / window.limit:.0%}"
    return Panel(
        title=printable(window.scope),
        note=f"{used_words}{line}",
        length=end - begin,
        now=now - begin,
        used=used or [(0.0, 0.0), (now - begin, percent(least))],
        even=drawn(window.even),
        band=band,
        ticks=_ticks(begin, end, zone),
    )


def _ticks(begin: float, end: float, zone: ZoneInfo) -> Sequence[tuple[float, str]]:
    """Return a few labels in local time: midnights for long windows, full hours for short ones."""
    length = end - begin
    if length >= 2 * _DAY:
        first = datetime.fromtimestamp(begin, zone).replace(hour=0, minute=0, second=0, microsecond=0)
        every = max(1, math.ceil(length / _DAY / _TICKS))
        moments = [first + timedelta(days=every * count) for count in range(1, _TICKS + 2)]
        written = "%a" if length <= 8 * _DAY else "%-d %b"
    else:
        first = datetime.fromtimestamp(begin, zone).replace(minute=0, second=0, microsecond=0)
        every = max(1, math.ceil(length / 3600 / _TICKS))
        moments = [first + timedelta(hours=every * count) for count in range(1, _TICKS + 2)]
        written = "%H:%M"
    return [(at.timestamp() - begin, f"{at:{written}}") for at in moments if begin < at.timestamp() <= end]
