"""Figures for tests: a week of which two fifths are used."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bot.figures.model import Panel

DAY: Final = 86_400.0
NAN: Final = float("nan")

WEEK: Final = Panel(
    title="main 7d",
    note="40% used, line 48%",
    length=7 * DAY,
    now=3.5 * DAY,
    used=[(0.0, 0.0), (2 * DAY, 30.0), (3.5 * DAY, 40.0)],
    even=[(0.0, 0.0), (7 * DAY, 100.0)],
    band=(70.0, 80.0, 90.0),
    ticks=[(DAY, "Tue"), (2 * DAY, "Wed"), (7 * DAY, "Mon")],
)

#: Panels that no window should make, and that are drawn all the same.
ODD: Final = {
    "no point": replace(WEEK, used=[], even=[], band=None, ticks=[]),
    "one point": replace(WEEK, used=[(3.5 * DAY, 40.0)], even=[], band=None),
    "no numbers": replace(WEEK, length=NAN, now=NAN, used=[(NAN, NAN)], band=(NAN, NAN, NAN), ticks=[(NAN, "x")]),
    "no length": replace(WEEK, length=0.0, now=0.0),
    "infinite": replace(WEEK, now=float("inf"), used=[(0.0, 0.0), (DAY, float("inf")), (2 * DAY, 10.0)]),
    "huge": replace(WEEK, used=[(0.0, 0.0), (DAY, 1e300), (3.5 * DAY, 1e308)], band=(1e9, 1e10, 1e300)),
    "negative": replace(WEEK, used=[(-DAY, -5.0), (0.0, -1e9)], even=[(-DAY, -1.0), (99 * DAY, 900.0)]),
    "long words": replace(WEEK, title="W" * 5_000, note="M" * 5_000, ticks=[(DAY, "W" * 5_000)]),
    "crowded": replace(WEEK, ticks=[(hour * 3_600.0, "12:00") for hour in range(168)]),
    "since": replace(WEEK, used=[(0.0, 0.0), (DAY, 20.0)], since=[(DAY, 20.0), (3.5 * DAY, 41.0)], band=None),
}
