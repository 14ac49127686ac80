"""How much each of Discord's rate limits has left ("Rate Limits", Header Format). No I/O; the clock is handed in.

What is under way counts as used: of several requests that go out together, none is one too many. A bucket of which
nothing is known holds no one up; its first answer says what it is like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LONGEST_WAIT: Final = 3600.0
#: Seconds until it is looked again whether what is under way has left something.
_SOON: Final = 0.05
_MOST: Final = 2_000


@dataclass(slots=True)
class _Bucket:
    limit: int
    left: int
    ends: float | None
    """When it is full again; None: a new window was begun, and nobody has said yet when it ends."""
    under_way: int = 0


class Buckets:
    """The rate limits of one bot, by the kind of request and the channel."""

    def __init__(self) -> None:
        self._known: dict[str, _Bucket] = {}

    def take(self, name: str, now: float) -> float | None:
        """A request is to go out. Returns the seconds for which it has to wait; None: it counts as under way."""
        bucket = self._known.get(name)
        if bucket is None:
            return None
        if bucket.ends is not None and now >= bucket.ends:
            bucket.left, bucket.ends = bucket.limit - bucket.under_way, None
        if bucket.left <= 0 and (bucket.ends is not None or bucket.under_way):
            return _SOON if bucket.ends is None else bucket.ends - now
        bucket.left = max(0, bucket.left - 1)
        bucket.under_way += 1
        return None

    def answered(self, name: str, headers: Mapping[str, str], now: float) -> None:
        """The answer to a request came."""
        bucket = self._known.get(name)
        if bucket is not None:
            bucket.under_way = max(0, bucket.under_way - 1)
        left, after = _count(headers.get("X-RateLimit-Remaining")), seconds(headers.get("X-RateLimit-Reset-After"))
        if left is None or after is None:
            return
        limit = max(1, _count(headers.get("X-RateLimit-Limit")) or 1, left)
        if bucket is None:
            bucket = self._known[name] = _Bucket(limit, left, now + after)
            self._bound(now)
        else:
            # Of the answers to what went out together, the one that knows of most of it may come first.
            bucket.left = min(bucket.left, left) if bucket.under_way else left
            bucket.limit, bucket.ends = limit, max(bucket.ends or 0.0, now + after) if bucket.under_way else now + after

    def lost(self, name: str) -> None:
        """No answer came to a request."""
        bucket = self._known.get(name)
        if bucket is not None:
            bucket.under_way = max(0, bucket.under_way - 1)

    def refused(self, name: str, after: float, now: float) -> None:
        """Discord said that it was too many, and for how many seconds."""
        bucket = self._known.setdefault(name, _Bucket(1, 0, None))
        bucket.left, bucket.ends = 0, now + after
        self._bound(now)

    def _bound(self, now: float) -> None:
        if len(self._known) > _MOST:
            self._known = {
                name: bucket
                for name, bucket in self._known.items()
                if bucket.under_way or bucket.ends is None or bucket.ends > now
            }


def seconds(value: object) -> float | None:
    """Return a number of seconds in an answer, if it is one; an hour at most."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return min(found, LONGEST_WAIT) if found >= 0 else None


def _count(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 10 else None
