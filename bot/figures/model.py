"""Values of a figure: windows with their use over time. Times are seconds, and amounts are percent of a limit."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One window. Times are seconds since the panel's left edge, and amounts are percent of the limit."""

    title: str
    note: str
    length: float
    now: float
    used: Sequence[tuple[float, float]]
    """Known use, ascending. The last point is now, unless there is a `since`."""
    even: Sequence[tuple[float, float]]
    """The current line, from when it was drawn to its end."""
    band: tuple[float, float, float] | None
    """Projection at the right edge: low, expected, high."""
    ticks: Sequence[tuple[float, str]]
    since: Sequence[tuple[float, float]] = ()
    """If the current use is unknown, its certain minimum, from the end of `used` until now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """The contents of one picture."""

    panels: Sequence[Panel]
    caption: str = ""
    """Units of both axes, in one line."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, written: str | bytes) -> Figure:
        """Return what `to_json` wrote.

        Raises:
            ValueError: it is no JSON.
        """
        raw = json.loads(written)
        return cls(panels=[Panel(**each) for each in raw["panels"]], caption=raw["caption"])


def finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that are numbers."""
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def printable(text: str) -> str:
    """Replace each character that controls, reorders or hides text by U+FFFD."""
    return "".join("\ufffd" if unicodedata.category(char)[0] == "C" else char for char in text)
