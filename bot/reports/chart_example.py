"""Draws the example picture of the documentation, from an invented week:

python -m bot.reports.chart_example docs/pictures/report.png
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from bot.figures.model import Figure
from bot.read_models.limits import WindowPace, WindowProjection
from bot.reports.chart import figure_of
from bot.reports.chart_subprocess import ChartSubprocess

_ZONE = ZoneInfo("Europe/Vienna")
#: Percent of the week used on each of its first days, and percent of five hours used in each of the first hours.
_DAYS, _HOURS = (11.0, 17.5, 15.0), (31.0, 24.0)


def figure() -> Figure:
    """Return a subscription's chart on a Thursday morning: the week is on track, the five hours are not."""
    now = datetime(2026, 11, 26, 9, 0, tzinfo=_ZONE).timestamp()
    monday = datetime(2026, 11, 23, 0, 0, tzinfo=_ZONE).timestamp()
    week = _window("7d", monday, 7 * 86_400.0, now, [(8, 19, each) for each in _DAYS], 24, expected=(0.78, 0.89, 0.99))
    five = _window(
        "5h", now - 2 * 3600, 5 * 3600.0, now, [(0, 1, each) for each in _HOURS], 1, expected=(0.9, 1.1, 1.3)
    )
    made = figure_of([five, week], _ZONE, now)
    assert made is not None
    return made


def _window(
    name: str,
    begin: float,
    length: float,
    now: float,
    work: list[tuple[int, int, float]],
    hours: int,
    *,
    expected: tuple[float, float, float],
) -> WindowPace:
    """Return a window that used an amount in each stretch of `hours`, evenly between two of its hours."""
    points, used = [(begin, 0.0)], 0.0
    for place, (first, last, percent) in enumerate(work):
        start = begin + place * hours * 3600
        points.append((start + first * 3600, used))
        used += percent / 100
        points.append((start + last * 3600, used))
    low, middle, high = expected
    # The line was drawn at the end of the last stretch, and the example has no use since then.
    end, drawn = begin + length, begin + (now - begin) // (hours * 3600) * hours * 3600
    return WindowPace(
        key=f"account:main/{name}",
        scope="account:main",
        unit="share",
        limit=1.0,
        used=used,
        reserved=0.0,
        line=used + (1 - used) * (now - drawn) / (end - drawn),
        begins_at=begin,
        resets_at=end,
        certainty="provider",
        projection=WindowProjection(low=low, expected=middle, high=high),
        use=(*points, (now, used)),
        even=((drawn, used), (end, 1.0)),
    )


async def _main(path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        made = await ChartSubprocess(folder=Path(folder), environ=os.environ).picture(figure())
    if made is None:
        return 1
    await asyncio.to_thread(path.write_bytes, made)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(Path(sys.argv[1]))))
