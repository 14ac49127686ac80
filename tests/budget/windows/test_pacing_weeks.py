"""Weeks of a subscription in fast motion, decided by what decides in production (benchmarks/weeks.py)."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

import pytest

from benchmarks.pacing import LAWS, figures, trial, windows
from benchmarks.pacing_chart import chart
from benchmarks.weeks import LOADS, TRIALS, Law, Load, Week, play
from tests import soak

SEED = 5
#: A clock that is a day ahead spends a day's share early, and takes the reset for a day nearer.
A_DAY = 1 / 7


def used(weeks: list[Week]) -> float:
    return statistics.fmean(week.used for week in weeks if week.wanted)


def test_an_even_pace_lasts_the_week_and_the_urgent_do_not_wait() -> None:
    (week,) = play(LOADS[1], "even", 1, SEED)
    assert week.exhausted_at is None or week.exhausted_at >= 0.97
    assert week.used >= 0.95
    assert max(week.waits["critical"]) == 0
    assert statistics.median(week.waits["high"]) < 2 * 3600


@pytest.mark.slow
def test_an_even_pace_lasts_the_week_and_leaves_little_whatever_the_load() -> None:
    weeks = windows("even", weeks=1, seed=SEED)
    assert len(weeks) == 10
    assert [(week.load, week.exhausted_at) for week in weeks if week.was_early_by_law] == []
    assert used(weeks) >= 0.95
    # Where there was little to do, most of it was left, and nothing waited for it.
    idle = [week for week in weeks if not week.wanted]
    assert idle
    assert all(week.used < 0.95 for week in idle if week.load == "little to do")


@pytest.mark.slow
@pytest.mark.parametrize("law", ["greedy", "days"])
def test_what_it_is_compared_with_is_gone_too_early(law: Law) -> None:
    weeks = windows(law, weeks=1, seed=SEED)
    assert sum(week.was_early for week in weeks) >= 2


def test_neither_restarts_nor_a_clock_that_jumps_stop_the_fleet_or_use_a_week_up() -> None:
    seed = int(soak.seed())
    print("seed", seed)
    for disturbed in (replace(TRIALS[0], restarts=4.0), replace(TRIALS[0], restarts=4.0, jumps=2.0)):
        weeks = play(disturbed, "even", 2, seed)
        least, early = (0.75, 0.97 - A_DAY) if disturbed.jumps else (0.9, 0.97)
        assert all(week.exhausted_at is None or week.exhausted_at >= early for week in weeks if week.tail <= 0.1)
        assert min((week.used for week in weeks if week.wanted), default=1.0) >= least
        assert statistics.median([wait for week in weeks for wait in week.waits["critical"]]) == 0
        assert statistics.median([wait for week in weeks for wait in week.waits["high"]]) < 2 * 3600


def test_the_same_seed_plays_the_same_week() -> None:
    assert play(LOADS[8], "even", 1, SEED) == play(LOADS[8], "even", 1, SEED)


def test_the_chart_draws_every_law() -> None:
    weeks = {law: play(LOADS[8], law, 1, SEED)[0] for law in LAWS}
    drawn = chart(weeks)
    assert all(f'<path class="{law}"' in drawn for law in LAWS)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_of_sixty_windows_none_is_used_up_before_its_time() -> None:
    found = figures("even", windows("even", seed=SEED))
    assert found[0].value == 60
    assert [figure.name for figure in found if figure.missed] == []


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("load", TRIALS, ids=lambda load: str(load.name))
def test_hard_loads_are_served_as_the_law_says(load: Load) -> None:
    found = trial(load, play(load, "even", 4, SEED))
    assert [(figure.name, figure.value) for figure in found if figure.missed] == []


def random_load(source: random.Random) -> Load:
    """Return random demand, sizes, operators, resets, restarts, clocks, and estimates that are wrong by up to five."""
    shares = [source.random() for _ in range(source.choice((1, 2, 5, 15)))]
    return Load(
        name="random",
        demand=source.uniform(1.3, 2.5),
        bursts=source.random(),
        nights=source.uniform(0.1, 1.0),
        weekends=source.uniform(0.1, 1.0),
        spread=source.uniform(0.3, 1.0),
        late_s=source.choice((60.0, 1_800.0, 7_200.0)),
        missing=source.choice((0.2, 0.9)),
        rounding=source.choice((0.0, 0.01)),
        operators=tuple(share / sum(shares) for share in shares),
        backlog=0.5,
        large=source.choice((0.0, 0.0, 0.2, 0.4)),
        estimated=source.choice((None, 0.2, 1.0, 5.0)),
        early=source.choice((0.0, 3.0)),
        restarts=source.choice((0.0, 4.0)),
        jumps=source.choice((0.0, 0.0, 2.0)),
    )


def misses(load: Load, weeks: list[Week]) -> list[str]:
    """Return the bounds that these weeks miss, by name."""
    wrong = A_DAY if load.jumps else 0.0
    wanted = [week for week in weeks if week.wanted]
    urgent = [week.served["critical"] + week.served["high"] for week in wanted]
    found = {
        "early": any(
            week.was_early_by_law and week.exhausted_at is not None and week.exhausted_at < 0.97 - wrong
            for week in weeks
        ),
        # Where all agents are busy, or the limit is reached, critical work waits, too.
        "critical": statistics.median([wait for week in weeks for wait in week.waits["critical"]]) > 0,
        "high": statistics.median([wait for week in weeks for wait in week.waits["high"]]) >= 2 * 3600,
        "large": any(windows > 2 for week in weeks for windows in week.large_windows),
        "used": bool(wanted) and used(wanted) < (0.92 if load.large else 0.95) - wrong,
        "least": any(week.used < 0.8 - wrong for week in wanted),
        # While some of it waits: where little is asked for it gets less.
        "low": bool(wanted)
        and statistics.fmean(urgent) < 0.9
        and sum(week.served["low"] for week in wanted) < 0.05 * sum(week.waited["low"] for week in wanted),
    }
    return [name for name, missed in found.items() if missed]


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_weeks_at_random_keep_the_law() -> None:
    """Of 24 loads with three windows each, hardly any misses a bound (docs/reference/benchmarks.md has the numbers)."""
    found: list[str] = []
    for number in range(24):
        source = random.Random(f"{soak.seed()}/{number}")
        load = random_load(source)
        weeks = play(load, "even", 3, source.randrange(2**32))
        missed = misses(load, weeks)
        print("seed", soak.seed(), number, missed, load)
        assert "critical" not in missed
        assert all(week.used >= 0.6 for week in weeks if week.wanted), "it stands still"
        found += missed
    assert len(found) <= 3


#: Loads of `random_load` that missed a bound, by their seed.
MISSED = {
    "try/88": "early",  # two tasks of 40 % began in one window, as its use had grown stale
    "try/8": "early",  # seen two hours late, nine of ten observations missing
    "try/60": "large",  # nothing was saved while the use was stale
    "try/41": "used",  # a fifth was kept to the end for a task that could not begin any more
    "try/70": "used",  # an early reset and late observations: a token was learned as 37 times what it is
    "new/170": "used",  # likewise 591 times, near a window's beginning: nothing was done for three weeks
    "new/27": "large",  # a line was drawn again in the evening, and nothing more was saved
    "new/105": "large",  # urgent work was ahead of the line at the last midnight, and what was saved was lost
}


@pytest.mark.soak
@pytest.mark.parametrize("seed", MISSED)
def test_the_law_is_kept_where_it_was_missed(seed: str) -> None:
    source = random.Random(seed)
    load = random_load(source)
    assert misses(load, play(load, "even", 3, source.randrange(2**32))) == []
