"""How a subscription lasts its week: the even pace beside greedy and beside whole-day allowances, 200 windows each."""

from __future__ import annotations

import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, percentile
from benchmarks.weeks import LOADS, URGENCIES, play

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.weeks import Law, Week

#: Of each load, one after the other.
WEEKS = 20
SEED = 5
#: Of what was granted, where there was work for all of it.
USED_AT_LEAST = 95.0
LAWS: dict[Law, str] = {"even": "even pace", "greedy": "greedy", "days": "whole days"}


def measure() -> list[Figure]:
    """Figures of each law."""
    # Fresh processes: nothing of the one that measures goes along.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        played = {law: pool.submit(windows, law) for law in LAWS}
        return [figure for law, weeks in played.items() for figure in figures(law, weeks.result())]


def windows(law: Law, weeks: int = WEEKS, seed: int = SEED) -> list[Week]:
    """What became of that many windows of each load."""
    return [week for number, load in enumerate(LOADS) for week in play(load, law, weeks, seed * 1000 + number)]


def figures(law: Law, weeks: Sequence[Week]) -> list[Figure]:
    """What they come to. Bounds are on the even pace alone."""
    name, even = LAWS[law], law == "even"
    wanted = [week.used * 100 for week in weeks if week.wanted]
    early = sum(week.was_early for week in weeks)
    found = [
        Figure(name=f"{name}: windows", value=len(weeks), unit=""),
        Figure(name=f"{name}: used up before 97 % of the time", value=early, unit="", at_most=0.0 if even else None),
        Figure(
            name=f"{name}: used where there was work for it",
            value=statistics.fmean(wanted),
            unit="%",
            at_least=USED_AT_LEAST if even else None,
        ),
        Figure(name=f"{name}: the least of these {len(wanted)}", value=min(wanted), unit="%"),
    ]
    for urgency in URGENCIES:
        waits = [wait / 3600 for week in weeks for wait in week.waits[urgency]]
        found.append(Figure(name=f"{name}: median wait, {urgency}", value=statistics.median(waits), unit="h"))
        found.append(Figure(name=f"{name}: nine of ten within, {urgency}", value=percentile(waits, 90), unit="h"))
    return found
