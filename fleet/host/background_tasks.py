"""Tasks that no one awaits."""

from __future__ import annotations

import asyncio
from typing import Any


class BackgroundTasks:
    """Keeps tasks to their end: the event loop alone would let one vanish. What they raise is lost."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[Any]] = set()

    def hold(self, task: asyncio.Future[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._release)

    def _release(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()
