"""Colors of figures: one accent, and shades of the ink for everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Palette:
    """SVG paints. They are written as attributes, so that a page needs no style sheet and no inline styles."""

    ground: str | None
    """Background; None: transparent."""
    ink: str
    muted: str
    """Labels of axes, and the limit."""
    rule: str
    """Grid lines."""
    accent: str


#: A picture with a background of its own, which looks the same in light and dark chat themes.
CARD: Final = Palette(ground="#1f232b", ink="#eceff4", muted="#a3adbd", rule="#3b424f", accent="#6cabff")
#: Part of a web page: the page's text color, and variables that it may set.
PAGE: Final = Palette(
    ground=None,
    ink="currentColor",
    muted="var(--figure-muted, #667085)",
    rule="var(--figure-rule, #d5d9e0)",
    accent="var(--figure-accent, #2563c9)",
)
