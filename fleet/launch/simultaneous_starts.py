"""How many agents of a fleet that is launched together start at the same time."""

from __future__ import annotations

import asyncio
import os

#: Starts at one time for each processor core. More of them would only slow one another down.
PER_CORE = 2


def simultaneous_starts() -> asyncio.Semaphore:
    """Return the semaphore that each start holds; those above its number wait for their turn."""
    return asyncio.Semaphore(PER_CORE * (os.cpu_count() or 1))
