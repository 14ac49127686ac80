"""Wait for what no event tells."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable


async def until(true: Callable[[], object], limit: float = 30.0) -> None:
    """Wait until something is so, looking again and again; what `true` returns may have to be awaited."""
    async with asyncio.timeout(limit):
        while True:
            found = true()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)
