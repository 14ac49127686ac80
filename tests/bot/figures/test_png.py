"""Pictures: letters appear on them on a machine without any font."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image, ImageChops

from bot.figures.model import Figure
from bot.figures.png import SCALE, png
from bot.figures.window_chart import WIDTH, window_chart
from tests.bot.figures.weeks import ODD, WEEK


def drawn(figure: Figure) -> Image.Image:
    return Image.open(io.BytesIO(png(window_chart(figure)))).convert("L")


@pytest.mark.parametrize("words", ["main 7d", "Zoë Müller", "Жизнь", "Ωμέγα", "≈ ≥ … % €"])
def test_letters_appear(words: str) -> None:
    """The renderer reads no fonts of the machine, so each letter comes from the package."""
    named, unnamed = (drawn(Figure(panels=[replace(WEEK, title=title)])) for title in (words, ""))
    box = ImageChops.difference(named, unnamed).getbbox()
    assert box is not None, "no letters"
    left, top, right, bottom = box
    assert 8 * SCALE <= bottom - top <= 24 * SCALE
    assert right - left > 4 * SCALE * len(words)
    assert left >= 20 * SCALE


@pytest.mark.parametrize("words", ["110%", "Thu"])
def test_letters_have_different_shapes(words: str) -> None:
    """A missing letter would be an empty box, the same for all."""
    first, second = (drawn(Figure(panels=[replace(WEEK, title=title)])) for title in (words, words[::-1]))
    assert ImageChops.difference(first, second).getbbox() is not None


@pytest.mark.parametrize("name", ODD)
def test_everything_is_drawn(name: str) -> None:
    with drawn(Figure(panels=[ODD[name]])) as picture:
        assert picture.width == WIDTH * SCALE
        shades = picture.tobytes()
        assert min(shades) < 60, "dark ground"
        assert max(shades) > 200, "light ink"


def test_what_is_no_svg_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        png("<svg")
