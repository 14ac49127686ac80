"""What the steps of a round share."""

from __future__ import annotations

import asyncio
import threading

from bot.issue_runs.rounds.round_state import in_git_thread


async def test_a_forge_that_hangs_for_git_leaves_threads_for_the_rest_of_muster() -> None:
    released = threading.Event()
    # More than `asyncio.to_thread` has on any machine.
    hanging = [asyncio.create_task(in_git_thread(released.wait)) for _ in range(40)]
    try:
        async with asyncio.timeout(30):
            await asyncio.sleep(0)
            assert await asyncio.to_thread(int, "7") == 7
    finally:
        released.set()
        assert all(await asyncio.gather(*hanging))
