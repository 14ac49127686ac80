"""Weeks of a subscription in fast motion, decided by what decides in production (benchmarks/weeks.py)."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest

from benchmarks.pacing import LAWS, figures, windows
from benchmarks.pacing_chart import chart
from benchmarks.weeks import LOADS, play

if TYPE_CHECKING:
    from benchmarks.weeks import Law, Week

SEED = 5


def used(weeks: list[Week]) -> float:
    return statistics.fmean(week.used for week in weeks if week.wanted)


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_even_pace_lasts_the_week_and_leaves_little(count: int) -> None:
    weeks = windows("even", weeks=count, seed=SEED)
    assert len(weeks) == 10 * count
    assert [(week.load, week.exhausted_at) for week in weeks if week.was_early] == []
    assert used(weeks) >= 0.95
    # Where there was little to do, most of it was left, and nothing waited for it.
    idle = [week for week in weeks if not week.wanted]
    assert idle
    assert all(week.used < 0.95 for week in idle if week.load == "little to do")


@pytest.mark.parametrize("law", ["greedy", "days"])
def test_what_it_is_compared_with_is_gone_too_early(law: Law) -> None:
    weeks = windows(law, weeks=1, seed=SEED)
    assert sum(week.was_early for week in weeks) >= len(weeks) / 4


def test_the_same_seed_plays_the_same_week() -> None:
    assert play(LOADS[1], "even", 1, SEED) == play(LOADS[1], "even", 1, SEED)


def test_the_chart_draws_every_law() -> None:
    weeks = {law: play(LOADS[8], law, 1, SEED)[0] for law in LAWS}
    drawn = chart(weeks)
    assert all(f'<path class="{law}"' in drawn for law in LAWS)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_of_two_hundred_windows_none_is_used_up_before_its_time() -> None:
    found = figures("even", windows("even", seed=SEED))
    assert found[0].value == 200
    assert [figure.name for figure in found if figure.missed] == []
