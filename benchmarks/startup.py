"""What every command in a shell pays before it begins: ``muster --help`` beside ``python -c pass``."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Figure

ROUNDS = 21
AT_MOST_MS = 120.0


def measure() -> list[Figure]:
    """Run both in turn, and compare the medians."""
    muster = (str(Path(sys.executable).with_name("muster")), "--help")
    bare = (sys.executable, "-c", "pass")
    _time(muster), _time(bare)  # read from the disk once
    taken: list[tuple[float, float]] = [(_time(muster), _time(bare)) for _ in range(ROUNDS)]
    help_ms, bare_ms = (statistics.median(column) for column in zip(*taken, strict=True))
    return [
        Figure(name="python -c pass, median", value=bare_ms, unit="ms"),
        Figure(name="muster --help, median", value=help_ms, unit="ms"),
        Figure(name="muster --help over python -c pass", value=help_ms - bare_ms, unit="ms", at_most=AT_MOST_MS),
    ]


def _time(command: tuple[str, ...]) -> float:
    """Milliseconds from start to end."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000
