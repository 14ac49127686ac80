"""Draw the dashboard's icon for home screens of iPhones and iPads: ``python -m docs.web_icon``.

They take no SVG, and round the corners themselves.
"""

from __future__ import annotations

from pathlib import Path

import resvg_py

STATIC = Path(__file__).parent.parent / "bot" / "interfaces" / "web" / "static"
#: Pixels of the icon's sides.
SIZE = 180


def drawn() -> bytes:
    """Return the icon as a PNG."""
    svg = (STATIC / "icon.svg").read_text(encoding="utf-8").replace(' rx="96"', "")
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))


def main() -> None:
    (STATIC / f"icon-{SIZE}.png").write_bytes(drawn())


if __name__ == "__main__":
    main()
