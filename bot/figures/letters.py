"""The chart of windows in characters, for terminals and chat systems without files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import plotext

from bot.figures.model import Figure, Panel, finite, printable

#: The size of a panel that fits most chat systems.
COLUMNS: Final = 76
ROWS: Final = 13
#: Maximum percentage that is drawn.
_TOP: Final = 150.0


def window_letters(figure: Figure, columns: int = COLUMNS, rows: int = ROWS) -> str:
    """Return the chart as plain text without colors, each panel in so many columns and rows."""
    # The text appears in another terminal, so the size of this one is irrelevant.
    plotext.terminal.limit(False, False)
    drawn = [_in_letters(plotext.figure, panel, columns, rows) for panel in figure.panels]
    unknown = "   ? at least so much" if any(panel.since for panel in figure.panels) else ""
    return "\n\n".join([*drawn, f"⠒ used   · line   ░ expected{unknown}"])


def _in_letters(sheet: Any, panel: Panel, columns: int, rows: int) -> str:
    length = panel.length if math.isfinite(panel.length) and panel.length > 0 else 1.0
    used, since, even = (_within(points, length) for points in (panel.used, panel.since, panel.even))
    band = None
    if panel.band is not None and all(map(math.isfinite, panel.band)):
        low, expected, high = (min(_TOP, max(0.0, amount)) for amount in panel.band)
        band = (low, expected, high)
    now, at_now = (since or used or [(0.0, 0.0)])[-1]
    sheet.clear()
    sheet.plot_size(columns, rows)
    if band is not None:
        sheet.draw(sheet.signal(*_filled(now, at_now, length, band, columns, rows), marker="░"))
    if even:
        sheet.draw(sheet.signal(*zip(*even, strict=True), marker="·").lines())
    if used:
        sheet.draw(sheet.signal(*zip(*used, strict=True), marker="braille").lines())
    if since:
        sheet.draw(sheet.signal(*zip(*since, strict=True), marker="?").lines())
    top = max(100.0, at_now, *(band or ()))
    ticks = [(at, printable(label)) for at, label in panel.ticks if 0 <= at <= length]
    sheet.ruler("x").lim(0, length)
    sheet.ruler("x").ticks([at for at, _ in ticks], [label for _, label in ticks])
    sheet.ruler("y").lim(0, top)
    sheet.ruler("y").ticks([0, 50, 100], ["0", "50", "100 %"])
    title, note = printable(panel.title), printable(panel.note)
    gap = max(2, columns - len(title) - len(note))
    drawn = [row.rstrip() for row in sheet.build().string(colorless=True).rstrip("\n").split("\n")]
    return "\n".join([f"{title}{' ' * gap}{note}", *drawn])


def _within(points: Sequence[tuple[float, float]], length: float) -> list[tuple[float, float]]:
    """Return the points that are numbers, moved into the chart: the library crashes on what is far outside."""
    return [(min(length, max(0.0, at)), min(_TOP, max(0.0, amount))) for at, amount in finite(points)]


def _filled(
    now: float, at_now: float, length: float, band: tuple[float, float, float], columns: int, rows: int
) -> tuple[list[float], ...]:
    """Return points that are dense enough to fill every cell between the low and the high projection."""
    low, _, high = band
    across, up = columns, 4 * rows
    xs, ys = [], []
    for step in range(1, across + 1):
        part = step / across
        bottom, ceiling = at_now + (low - at_now) * part, at_now + (high - at_now) * part
        for height in range(up + 1):
            xs.append(now + (length - now) * part)
            ys.append(bottom + (ceiling - bottom) * height / up)
    return xs, ys
