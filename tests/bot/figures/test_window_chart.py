"""Charts as SVG: they show the numbers that the report says, and any text and number is drawn."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bot.figures.model import Figure, Panel
from bot.figures.palette import PAGE
from bot.figures.window_chart import WIDTH, window_chart
from tests.bot.figures.weeks import DAY, ODD, WEEK

SVG = "{http://www.w3.org/2000/svg}"


def parsed(*panels: Panel, caption: str = "") -> ElementTree.Element:
    return ElementTree.fromstring(window_chart(Figure(panels=panels, caption=caption)))


def texts(root: ElementTree.Element) -> list[str]:
    return [str(each.text) for each in root.iter(f"{SVG}text")]


def heights(root: ElementTree.Element) -> dict[str, float]:
    """The height of each percentage on the axis of the first panel."""
    found: dict[str, float] = {}
    for each in root.iter(f"{SVG}text"):
        if each.text in ("0%", "50%", "100%") and each.text not in found:
            found[each.text] = float(each.attrib["y"]) - 4.5
    return found


def test_the_dot_is_at_the_use_that_the_note_says() -> None:
    root = parsed(WEEK)
    (dot,) = root.iter(f"{SVG}circle")
    axis = heights(root)
    share = (axis["0%"] - float(dot.attrib["cy"])) / (axis["0%"] - axis["100%"])
    assert share == pytest.approx(0.40, abs=0.01)
    assert "40% used, line 48%" in texts(root)
    # Half of the week is over.
    left, right = 72.0, WIDTH - 86.0
    assert (float(dot.attrib["cx"]) - left) / (right - left) == pytest.approx(0.5, abs=0.01)


def test_the_projection_ends_at_its_number_and_the_line_at_the_limit() -> None:
    root = parsed(WEEK)
    axis = heights(root)
    expected = next(each for each in root.iter(f"{SVG}polyline") if each.get("stroke-dasharray") == "0.1 5")
    end = float(expected.attrib["points"].split(",")[-1])
    assert (axis["0%"] - end) / (axis["0%"] - axis["100%"]) == pytest.approx(0.80, abs=0.01)
    assert "≈ 80%" in texts(root)
    even = next(each for each in root.iter(f"{SVG}polyline") if each.get("stroke-dasharray") == "7 5")
    assert float(even.attrib["points"].split(",")[-1]) == pytest.approx(axis["100%"], abs=0.1)


def test_axes_have_units_and_the_legend_names_what_is_drawn() -> None:
    words = texts(parsed(WEEK, caption="% of the limit, Europe/Vienna"))
    assert {"0%", "50%", "100%", "Tue", "Wed", "Mon", "now", "% of the limit, Europe/Vienna"} <= set(words)
    assert {"used", "line", "expected", "limit"} <= set(words)
    assert "not known" not in words
    assert "expected" not in texts(parsed(replace(WEEK, band=None)))
    assert "not known" in texts(parsed(ODD["since"]))


@pytest.mark.parametrize("name", ODD)
def test_whatever_the_numbers_are_everything_is_inside_the_picture(name: str) -> None:
    root = parsed(ODD[name], WEEK)
    height = float(root.attrib["height"])
    for each in root.iter():
        for key in ("x", "x1", "x2", "cx", "y", "y1", "y2", "cy"):
            if key in each.attrib:
                assert 0 <= float(each.attrib[key]) <= (WIDTH if "x" in key else height), (each.tag, each.attrib)
        for point in each.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= height
    assert "nan" not in ElementTree.tostring(root, encoding="unicode").replace("xmlns", "")


def test_what_is_beyond_the_scale_says_so() -> None:
    assert "≥ 150%" in texts(parsed(ODD["huge"]))


def test_labels_never_touch_their_neighbors() -> None:
    shown = [text for text in texts(parsed(ODD["crowded"])) if text == "12:00"]
    assert 3 <= len(shown) <= 14


def test_a_hostile_name_is_text_and_nothing_else() -> None:
    hostile = "</text><script>alert(1)</script>&\"'\x00\x1b[31m\u202e"
    root = parsed(replace(WEEK, title=hostile[:36], note=hostile, ticks=[(DAY, hostile)]), caption=hostile)
    known = {"svg", "title", "rect", "line", "polyline", "polygon", "circle", "text"}
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= known
    assert not [char for text in texts(root) for char in text if char in "\x00\x1b\u202e"]
    attributes = {key for each in root.iter() for key in each.attrib}
    assert not {"id", "style", "class", "href"} & attributes, "several figures fit on one page"


def test_a_page_may_set_the_colors() -> None:
    drawn = window_chart(Figure(panels=[WEEK]), PAGE)
    assert "currentColor" in drawn
    assert "var(--figure-accent" in drawn
    assert "<rect width" not in drawn, "the page has a background"


def test_a_figure_without_windows_says_so() -> None:
    assert texts(parsed()) == ["Nothing to draw yet."]


def test_a_figure_reaches_another_process_as_it_is() -> None:
    figure = Figure(panels=[WEEK, ODD["since"]], caption="x")
    assert window_chart(Figure.from_json(figure.to_json())) == window_chart(figure)
