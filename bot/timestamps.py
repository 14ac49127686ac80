"""Moments as programs read them."""

from __future__ import annotations

from datetime import UTC, datetime


def timestamp(at: float | None) -> str | None:
    """RFC 3339 in UTC, from seconds since the epoch; unknown stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
