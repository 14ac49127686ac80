"""Curves are small enough for a phone, and keep their ends."""

from __future__ import annotations

import pytest

from bot.pacing.window_pace import pace_of, thinned
from bot.read_models.limits import MOST_POINTS
from budget.windows.window_state import figures
from tests.budget.windows.random_windows import BEGINS, DAY, POLICY, day, standing


@pytest.mark.parametrize("count", [1, 2, 3, 62, 63, 64, 65, 66, 127, 128, 500, 768, 10_000])
def test_a_curve_is_bounded_and_keeps_its_ends(count: int) -> None:
    points = [(float(number), number / count) for number in range(count)]
    made = thinned(points)
    assert len(made) <= MOST_POINTS
    assert (made[0], made[-1]) == (points[0], points[-1])
    assert list(made) == sorted(set(made))
    if count <= MOST_POINTS:
        assert list(made) == points


def test_a_line_is_drawn_from_where_it_was_drawn_to_its_end() -> None:
    held = standing(day(200_000.0))
    window = pace_of(held, figures(held, BEGINS + DAY / 2, POLICY))
    assert window.even == ((BEGINS, 0.0), (BEGINS + DAY, 1e6))
    assert (window.line, window.ahead) == (500_000.0, -300_000.0)
    assert (window.share, window.least, window.has_end) == (0.2, 200_000.0, True)
