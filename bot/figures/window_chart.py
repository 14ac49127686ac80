"""The chart of windows as SVG: the use so far, the even line, the projection, and the limit. Pure.

Windows are below each other, and share one legend.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bot.figures import svg
from bot.figures.model import Figure, Panel, finite
from bot.figures.palette import CARD, Palette

#: Width of the picture in pixels; a phone in portrait shows it without a loss.
WIDTH: Final = 720
FONT: Final = "Inter, system-ui, sans-serif"
_EDGE: Final = 24.0
#: Borders of a plot within the picture, and the vertical parts of a panel.
_LEFT, _RIGHT = 72.0, WIDTH - 86.0
_HEAD, _PLOT, _FOOT, _GAP = 44.0, 132.0, 28.0, 20.0
_LEGEND: Final = 40.0
_TITLE, _TEXT, _SMALL = 16.0, 14.0, 13.0
#: Maximum percentage that is drawn; what is above is drawn there.
_TOP: Final = 150.0
#: Pixels between the hatches of what is not known.
_HATCH: Final = 6.0


def window_chart(figure: Figure, palette: Palette = CARD) -> str:
    """Return a complete SVG document, which may also be part of an HTML page. It has no ids, styles, links or scripts.

    Numbers that are not finite are left out, and those beyond the scale are drawn at its end.
    """
    drawings = [_Drawing(panel, palette, top) for panel, top in zip(figure.panels, _tops(figure), strict=True)]
    height = math.ceil(_tops(figure)[-1] + _HEAD + _PLOT + _FOOT + _LEGEND) if drawings else 96
    parts = [part for drawing in drawings for part in drawing.parts()]
    if not drawings:
        parts = [svg.label("Nothing to draw yet.", _EDGE, 54, fill=palette.muted, font_size=_TEXT)]
    else:
        parts += _legend(figure, palette, height - 22.0)
    ground = [] if palette.ground is None else [svg.element("rect", width=WIDTH, height=height, fill=palette.ground)]
    summary = "; ".join(f"{panel.title}: {panel.note}" for panel in figure.panels) or "Nothing to draw yet."
    return svg.element(
        "svg",
        svg.title(summary),
        *ground,
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        width=WIDTH,
        height=height,
        role="img",
        font_family=FONT,
    )


def _tops(figure: Figure) -> list[float]:
    return [8.0 + place * (_HEAD + _PLOT + _FOOT + _GAP) for place in range(len(figure.panels))]


@dataclass(frozen=True, slots=True)
class _Drawing:
    """One panel, with its upper edge at `top`."""

    panel: Panel
    palette: Palette
    top: float

    def parts(self) -> list[str]:
        return [*self._head(), *self._axes(), *self._projection(), *self._unknown(), *self._use(), *self._now()]

    # --- scale --------------------------------------------------------------------------------------------------

    def _x(self, seconds: float) -> float:
        length = self.panel.length if math.isfinite(self.panel.length) and self.panel.length > 0 else 1.0
        return _LEFT + (_RIGHT - _LEFT) * min(1.0, max(0.0, seconds / length))

    def _y(self, percent: float) -> float:
        return self._base - _PLOT * min(self._most, max(0.0, percent)) / self._most

    @property
    def _base(self) -> float:
        return self.top + _HEAD + _PLOT

    @property
    def _most(self) -> float:
        """Percent at the upper edge of the plot."""
        panel = self.panel
        amounts = [amount for _, amount in finite([*panel.used, *panel.since, *panel.even])]
        most: float = max((100.0, *amounts, *(self._band or ())))
        return min(_TOP, most) * 1.04

    @property
    def _band(self) -> tuple[float, float, float] | None:
        band = self.panel.band
        return band if band is not None and all(map(math.isfinite, band)) else None

    @property
    def _at_now(self) -> tuple[float, float] | None:
        """The last known point."""
        known = finite(self.panel.since) or finite(self.panel.used)
        return known[-1] if known else None

    def _placed(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(self._x(at), self._y(amount)) for at, amount in finite(points)]

    # --- parts --------------------------------------------------------------------------------------------------

    def _head(self) -> list[str]:
        note = svg.fitted(self.panel.note, _TEXT, (WIDTH - 2 * _EDGE) * 0.6)
        room = WIDTH - 2 * _EDGE - svg.width(note, _TEXT) - 16
        title = svg.fitted(self.panel.title, _TITLE, room)
        y, ink, muted = self.top + 24, self.palette.ink, self.palette.muted
        return [
            svg.label(title, _EDGE, y, fill=ink, font_size=_TITLE, font_weight="600"),
            svg.label(note, WIDTH - _EDGE, y, fill=muted, font_size=_TEXT, text_anchor="end"),
        ]

    def _axes(self) -> list[str]:
        palette = self.palette
        made = []
        for percent in (0, 50, 100):
            y = self._y(percent)
            stroke, thickness = (palette.muted, 1.5) if percent == 100 else (palette.rule, 1.0)
            made.append(svg.line(_LEFT, y, _RIGHT, y, stroke=stroke, stroke_width=thickness))
            made.append(self._axis_label(f"{percent}%", _LEFT - 10, y + 4.5, "end"))
        beyond = -math.inf
        for at, text in self.panel.ticks:
            if not math.isfinite(at) or not 0 <= at <= self.panel.length:
                continue
            x, half = self._x(at), svg.width(text, _SMALL) / 2
            made.append(svg.line(x, self._base, x, self._base + 5, stroke=palette.rule, stroke_width=1))
            # A label that would touch its neighbor is left out; its tick stays.
            if x - half > beyond:
                made.append(self._axis_label(text, x, self._base + 20, "middle"))
                beyond = x + half + 4
        return made

    def _axis_label(self, text: str, x: float, y: float, anchor: str) -> str:
        return svg.label(text, x, y, fill=self.palette.muted, font_size=_SMALL, text_anchor=anchor)

    def _projection(self) -> list[str]:
        accent, made = self.palette.accent, []
        band, now = self._band, self._at_now
        if band is not None and now is not None:
            start = self._x(now[0]), self._y(now[1])
            low, expected, high = map(self._y, band)
            made.append(svg.polygon([start, (_RIGHT, high), (_RIGHT, low)], fill=accent, fill_opacity=0.22))
            dots: dict[str, str | float | None]
            dots = {"stroke": accent, "stroke_width": 2, "stroke_dasharray": "0.1 5", "stroke_linecap": "round"}
            made.append(svg.polyline([start, (_RIGHT, expected)], **dots))
            written = f"{'≥' if band[1] >= _TOP else '≈'} {min(band[1], _TOP):.0f}%"
            y = min(self._base, max(self._y(self._most) + 8, expected + 4.5))
            made.append(svg.label(written, _RIGHT + 10, y, fill=accent, font_size=_TEXT, font_weight="600"))
        if len(even := self._placed(self.panel.even)) > 1:
            made.append(svg.polyline(even, stroke=self.palette.ink, stroke_width=1.6, stroke_dasharray="7 5"))
        return made

    def _unknown(self) -> list[str]:
        """Draw the certain minimum dotted, with hatches from there to the limit."""
        points = self._placed(self.panel.since)
        if not points:
            return []
        made, accent = [], self.palette.accent
        (first, _), (last, _) = points[0], points[-1]
        for step in range(int((last - first) / _HATCH) + 1):
            x = first + step * _HATCH
            y, top = _between(points, x), self._y(100)
            if y > top:
                made.append(svg.line(x, y, x, top, stroke=self.palette.muted, stroke_width=1, stroke_opacity=0.55))
        made.append(svg.polyline(points, stroke=accent, stroke_width=2, stroke_dasharray="2 4"))
        return made

    def _use(self) -> list[str]:
        accent, points = self.palette.accent, self._placed(self.panel.used)
        if len(points) < 2:
            return []
        area = [(points[0][0], self._base), *points, (points[-1][0], self._base)]
        ends: dict[str, str | float | None] = {"stroke_linejoin": "round", "stroke_linecap": "round"}
        return [
            svg.polygon(area, fill=accent, fill_opacity=0.14),
            svg.polyline(points, stroke=accent, stroke_width=3, **ends),
        ]

    def _now(self) -> list[str]:
        made, now = [], self.panel.now
        if math.isfinite(now):
            x = self._x(now)
            edge = min(_RIGHT - 14, max(_LEFT + 14, x))
            top = self._y(self._most)
            made.append(svg.line(x, top, x, self._base, stroke=self.palette.muted, stroke_width=1))
            made.append(self._axis_label("now", edge, top - 5, "middle"))
        if self._at_now is not None:
            x, y = self._x(self._at_now[0]), self._y(self._at_now[1])
            rim = self.palette.ground or "none"
            made.append(svg.element("circle", cx=x, cy=y, r=5, fill=self.palette.accent, stroke=rim, stroke_width=2))
        return made


def _between(points: Sequence[tuple[float, float]], x: float) -> float:
    """Return the height of a curve at `x`."""
    for (left, before), (right, after) in itertools.pairwise(points):
        if left <= x <= right and right > left:
            return before + (after - before) * (x - left) / (right - left)
    return points[-1][1]


def _legend(figure: Figure, palette: Palette, y: float) -> list[str]:
    """Explain the lines that are drawn, and say the units."""
    accent, middle, x, made = palette.accent, y - 4.5, _EDGE, list[str]()

    def swatch(**attributes: str | float | None) -> str:
        return svg.line(x, middle, x + 22, middle, **attributes)

    def named(text: str) -> float:
        made.append(svg.label(text, x + 29, y, fill=palette.ink, font_size=_SMALL))
        return x + 29 + svg.width(text, _SMALL) + 14

    made.append(swatch(stroke=accent, stroke_width=3, stroke_linecap="round"))
    x = named("used")
    if any(len(finite(panel.even)) > 1 for panel in figure.panels):
        made.append(swatch(stroke=palette.ink, stroke_width=1.6, stroke_dasharray="7 5"))
        x = named("line")
    if any(panel.band is not None for panel in figure.panels):
        made.append(svg.element("rect", x=x, y=middle - 6, width=22, height=12, fill=accent, fill_opacity=0.22))
        made.append(swatch(stroke=accent, stroke_width=2, stroke_dasharray="0.1 5", stroke_linecap="round"))
        x = named("expected")
    if any(panel.since for panel in figure.panels):
        marks = [svg.line(x + at, middle - 6, x + at, middle + 6, stroke=palette.muted) for at in (2, 8, 14, 20)]
        made += marks
        x = named("not known")
    made.append(swatch(stroke=palette.muted, stroke_width=1.5))
    x = named("limit")
    caption = svg.fitted(figure.caption, _SMALL, WIDTH - _EDGE - x)
    if figure.caption and len(caption) > 1:
        made.append(svg.label(caption, WIDTH - _EDGE, y, fill=palette.muted, font_size=_SMALL, text_anchor="end"))
    return made
