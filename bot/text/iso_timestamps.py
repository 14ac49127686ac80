"""Moments as programs read them."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(at: float | None) -> str | None:
    """RFC 3339 in UTC, from seconds since the epoch; unknown stays None, and so does what no calendar has."""
    if at is None:
        return None
    try:
        moment = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a provider says of its windows what it likes
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
