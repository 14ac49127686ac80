"""Waits that end early: on an event or a time limit, or as soon as one of several works ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any


async def set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait for `event`, for at most `seconds` or, if that is None, as long as it takes. Return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def first_of(*works: Awaitable[Any]) -> None:
    """Run all awaitables until one ends, then cancel the others. Raise its error if it failed."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
