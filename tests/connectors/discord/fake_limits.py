"""Rate limits of the fake Discord: so many requests of a kind in each channel, and so many of all in a second."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Limits:
    """None until they are set. Each is a number of requests, and the seconds in which they may come."""

    kinds: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By the name of the server's method that answers; each channel has its own."""
    everything: tuple[int, float] | None = None
    refused: list[str] = field(default_factory=list)
    """The buckets of requests that came too soon."""
    _windows: dict[str, tuple[int, float]] = field(default_factory=dict)
    """How many came in the window that is open, and when it ends."""

    def take(self, kind: str, channel: str) -> tuple[dict[str, str], float | None, bool]:
        """A request comes. Returns the headers that say what is left; where it comes too soon, the seconds that it has
        to wait, and whether that holds for everything."""
        if self.everything is not None and (after := self._over("everything", *self.everything)) is not None:
            self.refused.append("everything")
            return {}, after, True
        if kind not in self.kinds:
            return {}, None, False
        limit, seconds = self.kinds[kind]
        after = self._over(f"{kind} {channel}", limit, seconds)
        count, ends = self._windows[f"{kind} {channel}"]
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(0, limit - count)),
            "X-RateLimit-Reset-After": f"{ends - time.monotonic():.3f}",
        }
        if after is not None:
            self.refused.append(f"{kind} {channel}")
        return headers, after, False

    def _over(self, bucket: str, limit: int, seconds: float) -> float | None:
        now = time.monotonic()
        count, ends = self._windows.get(bucket, (0, 0.0))
        if now >= ends:
            count, ends = 0, now + seconds
        self._windows[bucket] = count + 1, ends
        return ends - now if count >= limit else None
