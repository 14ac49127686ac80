"""Limit on how fast a fleet's agents are restarted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

#: Maximum number of simultaneous restarts.
TRY_AT_ONCE = 4
#: Seconds between the restarts of agents that are down when Muster starts, so that a fleet does not start all at once.
STAGGER_S = 1.0


@dataclass(slots=True)
class RestartLimiter:
    """A limiter that spreads the restarts of a fleet over time."""

    spacing: float = STAGGER_S
    at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TRY_AT_ONCE))
    _next: float = 0.0
    _last: float = 0.0

    def slot(self, now: float) -> float:
        """Return the next free slot from `now` on, in seconds since the epoch."""
        back, self._last = max(0.0, self._last - now), now
        at = max(now, self._next - back)
        self._next = at + self.spacing
        return at
