"""Contents of charts of windows as plain values: shares of the limit over time, and labels. Pure.

Each important window gets one panel. There are at most four, because a phone shows no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from bot.figures.model import Figure, Panel
from bot.read_models.limits import WindowPace
from bot.reports import text as wording
from budget import amounts

PANELS: Final = 4
#: Maximum share that is drawn; larger ones are clipped.
_TOP: Final = 1.5
#: Approximate number of labels below a panel.
_TICKS: Final = 5
_HOUR: Final = 3_600.0
_DAY: Final = 24 * _HOUR


def figure_of(
    windows: Sequence[WindowPace], zone: ZoneInfo, now: float, *, redact: Callable[[str], str] = str
) -> Figure | None:
    """Return the contents of a chart, or None if no window can be drawn.

    Args:
        windows: the windows, the most important first.
        zone: the time zone of the labels.
        now: seconds since the epoch.
        redact: redacts secrets in texts.
    """
    # The picture of an unused window shows nothing, so it is drawn only if there is no other.
    drawable = [each for each in windows if _drawable(each, now)]
    chosen = [each for each in drawable if each.least] or drawable[:1]
    panels = [_panel(each, zone, now, redact) for each in chosen[:PANELS]]
    caption = f"% of the limit, {zone.key}" if zone.key else "% of the limit"
    return Figure(panels=panels, caption=caption) if panels else None


def _drawable(window: WindowPace, now: float) -> bool:
    return (
        window.least is not None
        and window.limit > 0
        and window.begins_at is not None
        and window.resets_at is not None
        and window.begins_at < now < window.resets_at
    )


def _panel(window: WindowPace, zone: ZoneInfo, now: float, redact: Callable[[str], str]) -> Panel:
    begin, end = window.begins_at, window.resets_at
    assert begin is not None
    assert end is not None
    least = window.least
    assert least is not None

    def percent(amount: float) -> float:
        return round(100 * min(_TOP, max(0.0, amount / window.limit)), 2)

    band = None
    if window.band is not None:
        low, expected, high = map(percent, window.band)
        band = (low, expected, high)
    points = [(at - begin, percent(used)) for at, used in window.use if begin <= at <= now]
    used, since = points or [(0.0, 0.0), (now - begin, percent(least))], list[tuple[float, float]]()
    if window.outdated_at is not None:
        used, since = _parted(used, max(0.0, window.outdated_at - begin))
    used_words = f"{amounts.percent(least / window.limit)} used"
    if window.used is None:
        used_words = f"at least {used_words}" if window.at_least is not None else "use not known"
    line = "" if window.line is None else f", line {amounts.percent(window.line / window.limit)}"
    return Panel(
        title=redact(wording.window_name(window)),
        note=f"{used_words}{line}",
        length=end - begin,
        now=now - begin,
        used=used,
        since=since,
        even=[(min(max(at, begin), end) - begin, percent(amount)) for at, amount in window.even],
        band=band,
        ticks=[(at - begin, label) for at, label in _ticks(begin, end, zone)],
    )


def _parted(
    points: Sequence[tuple[float, float]], at: float
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Split a curve at a moment."""
    before = [point for point in points if point[0] <= at] or [(0.0, 0.0)]
    return before, [before[-1], *(point for point in points if point[0] > at)]


def _ticks(begin: float, end: float, zone: ZoneInfo) -> list[tuple[float, str]]:
    """Return a few labels in local time: midnights for long windows, full hours for short ones."""
    length = end - begin
    if length >= 2 * _DAY:
        step, written = 24, "%a" if length <= 8 * _DAY else "%-d %b"
    else:
        step, written = 1 if length <= 6 * _HOUR else 6, "%H:%M"
    first = datetime.fromtimestamp(begin, zone).date()
    days = (first + timedelta(days=count) for count in range(int(length // _DAY) + 2))
    moments = (datetime(day.year, day.month, day.day, hour, tzinfo=zone) for day in days for hour in range(0, 24, step))
    inside = [moment for moment in moments if begin < moment.timestamp() <= end]
    every = -(-len(inside) // _TICKS) if len(inside) > _TICKS + 2 else 1
    return [(moment.timestamp(), f"{moment:{written}}") for moment in inside[::every]]
