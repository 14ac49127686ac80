"""What a benchmark finds, and how it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number. Without a bound it is there to read the others by."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def missed(self) -> bool:
        """Whether there is a bound, and the value is beyond it."""
        return (self.at_most is not None and not self.value <= self.at_most) or (
            self.at_least is not None and not self.value >= self.at_least
        )

    def to_json(self) -> dict[str, object]:
        """For programs."""
        return {**asdict(self), "missed": self.missed}


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that `percent` of `values` do not exceed, interpolated; `percent` from 1 to 99."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def table(benchmark: str, figures: Iterable[Figure]) -> str:
    """Figures for people, one in a line."""
    lines = [benchmark]
    for figure in figures:
        bound = verdict = ""
        if figure.at_most is not None or figure.at_least is not None:
            bound = f"at most {figure.at_most:g}" if figure.at_most is not None else f"at least {figure.at_least:g}"
            verdict = "MISSED" if figure.missed else "kept"
        lines.append(f"  {figure.name:<52} {figure.value:>9.2f} {figure.unit:<6} {bound:<14} {verdict}".rstrip())
    return "\n".join(lines)
