"""Long work in a thread, and work that must be completed, when Ctrl-C can arrive at any time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[Callable[[str], None]], T], progress: Callable[[str], None]) -> T:
    """Run `work` in a thread. If the caller is cancelled, `work` ends at its next progress report."""
    stopped = threading.Event()

    def tell(text: str) -> None:
        if stopped.is_set():
            raise InterruptedError
        progress(text)

    try:
        return await asyncio.to_thread(work, tell)
    finally:
        stopped.set()


async def to_the_end(work: Coroutine[object, object, T]) -> T:
    """Run `work` to completion even if the caller is cancelled, because half of it would be worse than none."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    return task.result()
