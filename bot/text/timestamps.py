"""Reading and formatting of times in the operator's time zone. Pure; times are seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from bot.text.errors import UsageError


def shown(at: float, zone: tzinfo, now: float) -> str:
    """Return ``14:00`` for today, ``Wed 25 Nov 09:00`` within 180 days, and the full date and time otherwise."""
    try:
        then, today = datetime.fromtimestamp(at, zone), datetime.fromtimestamp(now, zone)
    except (ValueError, OverflowError, OSError):
        return "some day"
    if then.date() == today.date():
        return f"{then:%H:%M}"
    if abs(at - now) < 180 * 86_400:
        return f"{then:%a} {then.day} {then:%b %H:%M}"
    return f"{then:%Y-%m-%d %H:%M}"


def read(text: str, zone: ZoneInfo) -> float:
    """Return the time that `text` gives: ``2026-11-25 09:00`` in the operator's zone, or RFC 3339 with its own zone.

    Raises:
        UsageError: `text` is not a time, or clocks skip that time in `zone`.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{text[:40]!r} is no moment. Write it like 2026-11-25 09:00 ({zone.key}) or 2026-11-25T09:00:00Z."
        ) from None
    try:
        if found.tzinfo is not None:
            return found.timestamp()
        at = found.replace(tzinfo=zone)
        back = datetime.fromtimestamp(at.timestamp(), UTC).astimezone(zone).replace(tzinfo=None)
    except (OverflowError, OSError, ValueError):
        raise UsageError(f"{text[:40]!r} is too far away to count with.") from None
    if back != found:
        later = (found + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M")
        raise UsageError(f"In {zone.key} clocks leave out {found:%Y-%m-%d %H:%M}. Write {later}, perhaps.")
    return at.timestamp()


def timestamp(at: float | None) -> str | None:
    """Return seconds since the epoch as RFC 3339 in UTC, or None if `at` is None or outside the calendar's range."""
    if at is None:
        return None
    try:
        moment = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a provider says of its windows what it likes
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
