"""A bell that any number of tasks listen to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class BroadcastEvent:
    """Rung when something changed. A listener takes `next` first, then looks, then waits: so no ring is missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    def next(self) -> asyncio.Event:
        """Set at the next ring."""
        return self._event

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, looking again at each ring."""
        while True:
            rung = self._event
            if condition():
                return
            await rung.wait()
