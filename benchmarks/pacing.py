"""How a subscription lasts its week, and who waits how long: production's dispatcher on ten kinds of load, beside
greedy and beside whole-day allowances; and on loads that the queue finds hard."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.figures import Figure, percentile
from benchmarks.weeks import LOADS, TRIALS, URGENCIES, Law, Load, Week, play

#: Of each load, one after the other.
WEEKS = 6
SEED = 5
#: Of what was granted, where there was work for all of it.
USED_AT_LEAST = 95.0
LAWS: dict[Law, str] = {"even": "even pace", "greedy": "greedy", "days": "whole days"}


def measure() -> list[Figure]:
    """Figures of each law."""
    # Fresh processes: nothing of the one that measures goes along.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        played = {law: pool.submit(windows, law) for law in LAWS}
        tried = {load: pool.submit(play, load, "even", WEEKS, SEED) for load in TRIALS}
        found = [figure for law, weeks in played.items() for figure in figures(law, weeks.result())]
        return found + [figure for load, weeks in tried.items() for figure in trial(load, weeks.result())]


def trial(load: Load, weeks: Sequence[Week]) -> list[Figure]:
    """Return what one hard load comes to: how much is used, and who waits how long."""
    used = [week.used * 100 for week in weeks if week.wanted]
    early = sum(week.was_early_by_law for week in weeks)
    found = [Figure(name=f"{load.name}: used up before 97 % of the time", value=early, unit="", at_most=0.0)]
    if used:
        # A task of more than half a window may leave what nothing else can use.
        least = None if load.large > 0.5 else 92.0 if load.large else USED_AT_LEAST
        found.append(Figure(name=f"{load.name}: used", value=statistics.fmean(used), unit="%", at_least=least))
        found.append(Figure(name=f"{load.name}: the least used", value=min(used), unit="%"))
    for urgency in URGENCIES:
        waits = [wait / 3600 for week in weeks for wait in week.waits[urgency]]
        most = 2.0 if urgency == "high" else 0.0 if urgency == "critical" else None
        name = f"{load.name}: median wait, {urgency}"
        found.append(Figure(name=name, value=statistics.median(waits), unit="h", at_most=most))
    if 1 < len(load.operators) < 5:
        for number in range(len(load.operators)):
            waits = [wait / 3600 for week in weeks for wait in week.by_operator.get(f"o{number}", [])]
            name = f"{load.name}: median wait of operator {number + 1}"
            found.append(Figure(name=name, value=statistics.median(waits), unit="h"))
    if 0 < load.large <= 0.5:
        late = sum(number > 2 for week in weeks for number in week.large_windows)
        found.append(Figure(name=f"{load.name}: begun after its second window", value=late, unit="", at_most=0.0))
    return found


def windows(law: Law, weeks: int = WEEKS, seed: int = SEED) -> list[Week]:
    """Return what happened to that many windows of each load."""
    return [week for number, load in enumerate(LOADS) for week in play(load, law, weeks, seed * 1000 + number)]


def figures(law: Law, weeks: Sequence[Week]) -> list[Figure]:
    """Return what they come to. Bounds are on the even pace alone."""
    name, even = LAWS[law], law == "even"
    wanted = [week.used * 100 for week in weeks if week.wanted]
    early, ours = sum(week.was_early for week in weeks), sum(week.was_early_by_law for week in weeks)
    most = 0.0 if even else None
    found = [
        Figure(name=f"{name}: windows", value=len(weeks), unit=""),
        Figure(name=f"{name}: used up before 97 % of the time", value=early, unit=""),
        Figure(
            name=f"{name}: of these neither for one wrong projection nor for critical work",
            value=ours,
            unit="",
            at_most=most,
        ),
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
