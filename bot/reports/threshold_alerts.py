"""Alerts for windows that passed 80, 90, 95 or 99 percent since the last alert. Pure.

Each share is reported once per window, and only the highest of several that were passed together. It can be reported
again after the window resets. For a limit that people set, it can also be reported again after use fell well below it,
for example because the limit was raised. A provider may correct its own window downwards and back, but this causes no
new alert.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bot.read_models.limits import WindowPace
from database.queries.operations.posted_reports import ReportRow

SHARES: Final = (0.80, 0.90, 0.95, 0.99)
#: Share from which an alert is sent even in quiet hours, because hardly any work is possible.
AT_ANY_HOUR: Final = 0.99
#: How far use must fall below a share before it can be reported again.
_FELL: Final = 0.10
#: A provider's window was reset early if its use fell to at most this part of the reported share.
_EMPTIED: Final = 0.5
#: Seconds by which a provider's report of the same reset may vary.
_JITTER: Final = 300.0

#: Kind of the rows that record alerts.
TOLD: Final = "crossing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """A window that passed a share without an alert yet."""

    window: WindowPace
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertDecision:
    crossings: Sequence[Crossing]
    rows: Sequence[ReportRow]
    """Rows to write with the message."""
    over: frozenset[str]
    """Keys of rows of shares that can be reported again."""


def decide(windows: Iterable[WindowPace], told: Iterable[ReportRow], now: float, *, quiet: bool) -> AlertDecision:
    """Decide which shares to report, given the earlier alerts.

    Args:
        windows: the current windows.
        told: the rows of the kind `TOLD`.
        now: seconds since the epoch.
        quiet: whether only urgent alerts are sent.
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
    """Return the key that records the alert for this share of a window."""
    return f"crossing/{share:.2f}/{window}"


def _window_of(key: str) -> str:
    return key.split("/", 2)[2]


def _share_of(key: str) -> float:
    return float(key.split("/", 2)[1])


def _again(window: WindowPace, share: float, told: Sequence[ReportRow], now: float) -> set[str]:
    """Return the keys of rows whose shares can be reported again."""
    if not told:
        return set()
    reset = max(row.due_at for row in told)
    later = window.resets_at is None or window.resets_at > reset + _JITTER
    if reset and now >= reset and later:
        return {row.key for row in told}
    if window.unit == "share" and window.limit == 1.0:
        # A provider's whole window has a limit that people cannot raise.
        emptied = share <= _EMPTIED * max(_share_of(row.key) for row in told)
        return {row.key for row in told} if emptied else set()
    return {row.key for row in told if share < _share_of(row.key) - _FELL}
