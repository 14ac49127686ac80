"""SVG to PNG with resvg, in the font that is part of this package: a machine needs no fonts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import resvg_py

_FONTS: Final = Path(__file__).parent / "fonts"
#: Pixels of the picture for each unit of the SVG: screens of phones have two and more.
SCALE: Final = 2


def png(document: str) -> bytes:
    """Return a picture of an SVG document.

    Raises:
        ValueError: it is no SVG.
    """
    fonts = [str(path) for path in sorted(_FONTS.glob("*.ttf"))]
    return resvg_py.svg_to_bytes(
        svg_string=document, zoom=SCALE, font_files=fonts, skip_system_fonts=True, font_family="Inter",
        sans_serif_family="Inter",
    )  # fmt: skip
