"""SVG elements as text. Every attribute and every text is escaped here, and nowhere else."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable
from typing import Final

from bot.figures.model import printable

#: Widths in em of some characters of Inter; others are estimated by their kind.
_NARROW: Final = frozenset(" .,:;'|!ijltfrI()[]-·")
_WIDE: Final = frozenset("mwMW%@—…")


def element(name: str, *children: str, **attributes: str | float | None) -> str:
    """Return an element.

    Args:
        name: the element's name.
        children: elements that this module made; text belongs into `label`.
        attributes: names with `_` for `-`; None leaves an attribute out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{clean(value) if isinstance(value, str) else number(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(children)}</{name}>" if children else f"<{name}{written}/>"


def label(text: str, x: float, y: float, **attributes: str | float | None) -> str:
    """Return a line of text with its baseline at `y`."""
    return element("text", clean(text), x=x, y=y, **attributes)


def title(text: str) -> str:
    """Return the description that screen readers read."""
    return element("title", clean(text))


def line(x1: float, y1: float, x2: float, y2: float, **attributes: str | float | None) -> str:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def polyline(points: Iterable[tuple[float, float]], **attributes: str | float | None) -> str:
    return element("polyline", points=_listed(points), fill="none", **attributes)


def polygon(points: Iterable[tuple[float, float]], **attributes: str | float | None) -> str:
    return element("polygon", points=_listed(points), **attributes)


def clean(text: str) -> str:
    """Return a text that XML allows, without markup and invisible characters."""
    return html.escape(printable(text))


def number(value: float) -> str:
    """Write a number in at most one decimal place, or two below 1.

    Raises:
        ValueError: the number is not finite, so it has no place in a picture.
    """
    if not math.isfinite(value):
        raise ValueError(f"not a finite number: {value}")
    return f"{value:.{1 if abs(value) >= 1 else 2}f}".rstrip("0").rstrip(".") if value else "0"


def width(text: str, size: float) -> float:
    """Estimate the width of a text in pixels, rather too wide than too narrow."""
    return size * sum(map(_em, text))


def fitted(text: str, size: float, room: float) -> str:
    """Return the text, shortened with an ellipsis if it is wider than `room`."""
    if width(text, size) <= room:
        return text
    while text and width(f"{text}…", size) > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _em(char: str) -> float:
    if char in _NARROW:
        return 0.36
    if char in _WIDE or char.isupper():
        return 1.06 if char in _WIDE else 0.8
    return 1.0 if unicodedata.east_asian_width(char) in "WF" else 0.62


def _listed(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)
