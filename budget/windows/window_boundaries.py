"""The start and end of the windows in which spending is counted. Times are seconds since the epoch.

A window is ``day``, ``week`` (from Monday), ``month``, all in UTC, or a length such as ``90m``, ``5h`` or ``7d``.
Windows of a length follow one another without gaps from the epoch (1970-01-01 00:00 UTC). So their boundaries do not
depend on the spending. None is a window without an end.

Programs also write ``18000s@1764061200``: windows of so many seconds that follow one another from that moment, like a
provider's.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_LENGTH = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_FROM = re.compile(r"([1-9][0-9]{0,7})s@([0-9]{1,12})")
_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_LONGEST = 366 * 86400
_DAY, _WEEK = 86400, 7 * 86400


def check(window: str | None) -> None:
    """Check that `window` is a window.

    Raises:
        ValueError: `window` is not a window; the message says what to write.
    """
    if window not in (None, "day", "week", "month") and _from(window) is None:
        _length(window)


def length_of(window: str) -> int | None:
    """Return the seconds of a window that is written as a length, or None for another one."""
    try:
        return _length(window)
    except ValueError:
        return None


def start_of(window: str | None, now: float) -> float:
    """Return the start of the window that contains `now`; the epoch for a window without an end."""
    if window is None:
        return 0.0
    if window == "day":
        return float(now // _DAY * _DAY)
    if window == "week":
        # The epoch was a Thursday, three days after a Monday.
        return float((now + 3 * _DAY) // _WEEK * _WEEK - 3 * _DAY)
    if window == "month":
        return _month(now).timestamp()
    if (found := _from(window)) is not None:
        length, begin = found
        return float(begin + (now - begin) // length * length)
    length = _length(window)
    return float(now // length * length)


def in_words(window: str) -> str:
    """Return the window in readable form; windows from a moment appear as their length."""
    found = _from(window)
    if found is None:
        return window
    for size, letter in ((86_400, "d"), (3600, "h"), (60, "m")):
        if found[0] % size == 0:
            return f"{found[0] // size}{letter}"
    return f"{found[0]}s"


def is_from_moment(window: str | None) -> bool:
    """Return whether a program wrote the window, for a provider's window."""
    return _from(window) is not None


def from_moment(begins_at: float, length_s: float) -> str:
    """Return the written form of windows of `length_s` seconds that follow one another from a moment."""
    return f"{max(1, round(length_s))}s@{max(0, round(begins_at))}"


def end_of(window: str | None, now: float) -> float | None:
    """Return the end of the window that contains `now`, which is the start of the next one; None if it has no end."""
    if window is None:
        return None
    if window == "month":
        # Every month has a 28th, and four days later is always in the next month.
        return (_month(now).replace(day=28) + timedelta(days=4)).replace(day=1).timestamp()
    found = _from(window)
    length = found[0] if found is not None else {"day": _DAY, "week": _WEEK}.get(window) or _length(window)
    return start_of(window, now) + length


def _from(window: str | None) -> tuple[int, int] | None:
    found = _FROM.fullmatch(window or "")
    length = int(found[1]) if found else 0
    return (length, int(found[2])) if found and length <= _LONGEST else None


def _month(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _length(window: str | None) -> int:
    found = _LENGTH.fullmatch(window or "")
    length = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not found or length > _LONGEST:
        raise ValueError(
            f"{window!r} is no window of a budget. Write day, week or month (UTC), or a length of up to 366 days such "
            "as 90m, 5h or 7d."
        )
    return length
