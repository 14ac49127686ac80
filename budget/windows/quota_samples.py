"""Observations of a provider's windows, and the events between them. Pure.

The usage within a window only grows. If it falls, the window was reset early, or an observation is late.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from budget.windows.even_spread_line import JITTER_S, ROUNDING

EventKind: TypeAlias = Literal[
    "reset", "early_reset", "plan_change", "clock_skew", "jump_back", "over", "stale", "contradiction"
]

#: The maximum lateness of an observation, as a share of the window's length. Of the observations within that time, the
#: one counts that yields the highest usage together with the requests since.
LATE = 1 / 84
#: The lower and the upper bound of that lateness in seconds.
_LATE_S = (600.0, 7_200.0)
#: The maximum length of a window in seconds.
_LONGEST_S = 400 * 86_400.0
#: The maximum valid usage, as a share of the window.
MOST_USED = 10.0
#: The usage after a reset is at most the first share of the usage before it, or at most the second share of the window.
_EMPTIED, _EMPTY = 0.2, 0.02
#: The minimum fall of the usage in a reset. Near the start of a window, a late observation may show a smaller fall.
_FALL = 0.1
_OVER = "An observation of a window that is over came late: it is left out."
#: The share by which equal lengths may differ: Codex reports 299 minutes for 5 hours.
_SAME_LENGTH = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotaSample:
    """One observation of a window."""

    account: str
    window: str
    """The provider's name of the window: ``5h``, ``7d``, ..."""
    seen_at: float
    used: float | None = None
    """The used share of the window; may exceed 1."""
    reset_at: float | None = None
    length_s: float | None = None
    status: str | None = None
    """The provider's status: allowed, allowed_warning, rejected, ..."""
    tokens: float | None = None
    """The account's total usage at that time, as counted here, in weighted tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """An event of a window. The same history yields the same events, which kind and time identify."""

    kind: EventKind
    """reset: the window was reset on time. early_reset: it was reset early. plan_change: its length changed.
    clock_skew: an observation is from the future. jump_back: the usage fell within the window. over: the usage exceeded
    100 percent. stale: the last observation is too old. contradiction: observations disagree, or somebody else
    spends."""
    at: float
    text: str


def late_by(length: float | None) -> float:
    """Return how late an observation of a window of that length may be, in seconds."""
    shortest, longest = _LATE_S
    return shortest if length is None else max(shortest, min(longest, LATE * length))


@dataclass(slots=True)
class _Known:
    """The information from the observations of one window so far."""

    rows: list[QuotaSample] = field(default_factory=list)
    length: float | None = None
    reset: float | None = None
    used: float | None = None
    """The last observed usage."""
    highest: float = 0.0

    def take(self, row: QuotaSample) -> None:
        self.rows.append(row)
        self.length = self.length if row.length_s is None else row.length_s
        self.reset = self.reset if row.reset_at is None else row.reset_at
        self.used = self.used if row.used is None else row.used
        self.highest = max(self.highest, row.used or 0.0)


def segments(rows: Sequence[QuotaSample]) -> tuple[list[list[QuotaSample]], list[Event]]:
    """Split observations by window; return them with the events between and within the windows."""
    windows: list[_Known] = []
    events: list[Event] = []
    for row in rows:
        current = windows[-1] if windows else _Known()
        if len(windows) > 1 and _is_late(windows[-2], current, row):
            events.append(Event(kind="contradiction", at=row.seen_at, text=_OVER))
            continue
        kind, text = _between(current, row) if current.rows else (None, "")
        if kind is not None:
            events.append(Event(kind=kind, at=row.seen_at, text=text))
        if kind == "contradiction" and row.reset_at is not None and row.reset_at <= row.seen_at:
            # A late observation of a window that was already over says nothing about this one.
            continue
        anew = kind in ("reset", "early_reset", "plan_change")
        if row.used is not None and row.used > 1 and (anew or current.highest <= 1):
            text = f"{percent(row.used)} of it is used: the provider let more through than all of it."
            events.append(Event(kind="over", at=row.seen_at, text=text))
        if row.status == "rejected" and (row.used is None or row.used < 1):
            if row.used is not None and row.used < 1 - ROUNDING and current.highest < 1:
                text = f"The provider rejects requests at {percent(row.used)}: it is taken for used up."
                events.append(Event(kind="contradiction", at=row.seen_at, text=text))
            row = replace(row, used=1.0)
        if anew or not windows:
            windows.append(_Known())
        windows[-1].take(row)
    return [known.rows for known in windows], events


def _is_late(before: _Known, current: _Known, row: QuotaSample) -> bool:
    """Return whether an observation belongs to the window before, which was just reset early: it has that reset."""
    if before.reset is None or current.reset is None or row.reset_at is None:
        return False
    since = row.seen_at - current.rows[0].seen_at
    is_other = abs(current.reset - before.reset) > 2 * JITTER_S
    return is_other and abs(row.reset_at - before.reset) <= JITTER_S and since <= 2 * late_by(current.length)


def _between(current: _Known, row: QuotaSample) -> tuple[EventKind | None, str]:
    """Return the event between the window so far and the next observation, with its text."""
    length, reset, used = current.length, current.reset, current.used
    if length is not None and row.length_s is not None and abs(length - row.length_s) > _SAME_LENGTH * length:
        return "plan_change", f"It is {hours(row.length_s)} long now, and was {hours(length)}: the plan is another."
    fell = used is not None and row.used is not None and used - row.used > ROUNDING
    emptied = used is not None and row.used is not None and used - row.used > _FALL
    emptied = emptied and row.used is not None and row.used <= max(_EMPTY, _EMPTIED * (used or 0.0))
    if reset is not None and row.reset_at is not None and abs(row.reset_at - reset) > JITTER_S:
        if row.seen_at >= reset - JITTER_S and row.reset_at > reset:
            return "reset", "It was reset at its time."
        if row.reset_at <= row.seen_at:
            return "contradiction", _OVER
        if fell:
            return "early_reset", f"It was reset early: from {percent(used)} to {percent(row.used)}."
        if (used or 0.0) <= _EMPTY:
            return "reset", "It begins with its first use, which is now."
        later = "later" if row.reset_at > reset else "earlier"
        by = hours(abs(row.reset_at - reset))
        return "contradiction", f"Its reset is {by} {later} than was said before, and its use did not fall."
    if reset is not None and row.reset_at is None and row.seen_at >= reset:
        return "reset", "It was reset at its time."
    if emptied:
        return "early_reset", f"It was reset early: from {percent(used)} to {percent(row.used)}."
    if fell:
        text = (
            f"Its use fell from {percent(used)} to {percent(row.used)} without a reset: an observation was late, or "
            f"the provider gave something back. The higher one counts for {hours(late_by(length))}, and until three "
            "more observations say less."
        )
        return "jump_back", text
    return None, ""


def skewed(row: QuotaSample) -> Event:
    text = "It was observed at a time that is yet to come: the clock went back. Until then this says nothing."
    return Event(kind="clock_skew", at=row.seen_at, text=text)


def ordered(history: Iterable[QuotaSample], most: int | None = None) -> list[QuotaSample]:
    """Return the latest `most` observations in order of time, without invalid numbers."""
    rows = sorted((row for row in history if math.isfinite(row.seen_at)), key=lambda row: row.seen_at)
    return [row if _is_sane(row) else _sane(row) for row in (rows if most is None else rows[-most:])]


def _is_sane(row: QuotaSample) -> bool:
    return (
        (row.used is None or 0 <= row.used <= MOST_USED)
        and (row.reset_at is None or is_time(row.reset_at, row.seen_at))
        and (row.length_s is None or 0 < row.length_s <= _LONGEST_S)
        and (row.tokens is None or 0 <= row.tokens < math.inf)
    )


def _sane(row: QuotaSample) -> QuotaSample:
    return replace(
        row,
        used=row.used if row.used is not None and 0 <= row.used <= MOST_USED else None,
        reset_at=row.reset_at if row.reset_at is not None and is_time(row.reset_at, row.seen_at) else None,
        length_s=length_of(row.length_s),
        tokens=row.tokens if row.tokens is not None and 0 <= row.tokens < math.inf else None,
    )


def is_time(at: float, near: float) -> bool:
    return math.isfinite(at) and abs(at - near) <= _LONGEST_S


def length_of(length: float | None) -> float | None:
    return length if length is not None and 0 < length <= _LONGEST_S else None


def percent(share: float | None) -> str:
    return "?" if share is None else f"{share * 100:.1f} percent"


def hours(seconds: float) -> str:
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.1f} days"
    return f"{seconds / 3_600:.1f} hours" if seconds >= 3_600 else f"{seconds / 60:.0f} minutes"
