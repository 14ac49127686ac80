"""Which windows passed 80, 90, 95 or 99 percent since that was told last. Pure.

Each share is told once in each window, and of several that were passed together only the highest. It may be told again
once the window was reset, or, of a limit that people set, once what is used fell well below it, as it does when the
limit is raised. What a provider says of its own window may be put right downwards and come back: that is no reason.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from database.queries.operations.posted_reports import ReportRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bot.pacing.window_series import WindowFacts

SHARES: Final = (0.80, 0.90, 0.95, 0.99)
#: From this share on it is told in quiet hours, too: next to nothing works any more.
AT_ANY_HOUR: Final = 0.99
#: What is used must lie so much below a share for that to be told again.
_FELL: Final = 0.10
#: A provider's window of which no more than this part of what was told is used started again before its time.
_EMPTIED: Final = 0.5
#: Providers' resets move by a minute or two without being others (seconds).
_JITTER: Final = 300.0

#: The kind of the rows that remember what was told.
TOLD: Final = "crossing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """A window passed a share that was not told yet."""

    window: WindowFacts
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertDecision:
    crossings: Sequence[Crossing]
    rows: Sequence[ReportRow]
    """To be written with the message."""
    over: frozenset[str]
    """Keys of rows of what may be told again."""


def decide(windows: Iterable[WindowFacts], told: Iterable[ReportRow], now: float, *, quiet: bool) -> AlertDecision:
    """Return what is to be told, given what was.

    Args:
        windows: as they stand.
        told: the rows of the kind `TOLD`.
        now: seconds since the epoch.
        quiet: whether only what cannot wait is told.
    """
    by_window: dict[str, list[ReportRow]] = defaultdict(list)
    for row in told:
        by_window[_window_of(row.key)].append(row)
    crossings: list[Crossing] = []
    rows: list[ReportRow] = []
    over: set[str] = set()
    for window in windows:
        share, known = window.share, by_window.get(window.key, [])
        if share is None:
            continue
        again = _again(window, share, known, now)
        over |= again
        known = [row for row in known if row.key not in again]
        passed = [each for each in SHARES if share >= each - 1e-9]
        highest_told = max((_share_of(row.key) for row in known), default=0.0)
        if not passed or passed[-1] <= highest_told or (quiet and passed[-1] < AT_ANY_HOUR):
            continue
        crossings.append(Crossing(window=window, share=passed[-1]))
        rows += [
            ReportRow(key=key, kind=TOLD, due_at=window.resets_at or 0.0, posted_at=now)
            for each in passed
            if (key := key_of(window.key, each)) not in {row.key for row in known}
        ]
    crossings.sort(key=lambda each: (-(each.window.share or 0.0), each.window.key))
    return AlertDecision(crossings=crossings, rows=rows, over=frozenset(over))


def key_of(window: str, share: float) -> str:
    """Under which key it is remembered that this share of a window was told."""
    return f"crossing/{share:.2f}/{window}"


def _window_of(key: str) -> str:
    return key.split("/", 2)[2]


def _share_of(key: str) -> float:
    return float(key.split("/", 2)[1])


def _again(window: WindowFacts, share: float, told: Sequence[ReportRow], now: float) -> set[str]:
    """Return the rows of what may be told again."""
    if not told:
        return set()
    reset = max(row.due_at for row in told)
    later = window.resets_at is None or window.resets_at > reset + _JITTER
    if reset and now >= reset and later:
        return {row.key for row in told}
    if window.unit == "share" and window.limit == 1.0:
        # A whole window of a provider's, whose limit no one raises.
        emptied = share <= _EMPTIED * max(_share_of(row.key) for row in told)
        return {row.key for row in told} if emptied else set()
    return {row.key for row in told if share < _share_of(row.key) - _FELL}
