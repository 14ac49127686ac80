"""What reading and checking a roster takes: 1,000 and 10,000 agents, beside the bare YAML library on the same file."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.figures import Figure
from fleet.errors import RosterError
from fleet.roster import loader

SIZES = (1000, 10_000)
ROUNDS = 5
#: Of reading and checking to the bare library.
RATIO_AT_MOST = 3.0
#: From 1,000 to 10,000 agents; a line through zero would be 10.
GROWTH_AT_MOST = 15.0

_FLOOR = (
    "agents:\n  - {name: lead, role: orchestrator, runtime: sim}\n  - {name: polisher, role: enhancer, runtime: sim}\n"
)
_GOOD = "  - {{name: agent{}, role: coder, runtime: sim, alias: Agent {}}}\n"
_BAD = "  - {{name: Agent{}, role: codr, rutime: sim, alias: '@{}'}}\n"


def measure() -> list[Figure]:
    """CPU of each, medians."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        file = Path(folder, "roster.yaml")
        for kind, line in (("right", _GOOD), ("wrong everywhere", _BAD)):
            taken = {}
            for size in SIZES:
                file.write_text(_FLOOR + "".join(line.format(number, number) for number in range(size)))
                bare, checked = _cpu(lambda: _parse(file)), _cpu(lambda: _check(file))
                taken[size] = checked
                figures += [
                    Figure(name=f"{kind}, {size:,} agents: bare YAML, CPU", value=bare, unit="ms"),
                    Figure(name=f"{kind}, {size:,} agents: read and checked, CPU", value=checked, unit="ms"),
                    Figure(
                        name=f"{kind}, {size:,} agents: ratio",
                        value=checked / bare,
                        unit="times",
                        at_most=RATIO_AT_MOST,
                    ),
                ]
            growth = taken[SIZES[1]] / taken[SIZES[0]]
            figures.append(Figure(name=f"{kind}, 10,000 to 1,000", value=growth, unit="times", at_most=GROWTH_AT_MOST))
    return figures


def _parse(file: Path) -> None:
    # The fast loader where the machine has it, as for any other program.
    yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _check(file: Path) -> None:
    try:
        loader.load(file)
    except RosterError as error:
        str(error)


def _cpu(act: Callable[[], object]) -> float:
    """Return milliseconds of CPU."""
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        act()
        taken.append((time.process_time() - began) * 1000)
    return statistics.median(taken)
