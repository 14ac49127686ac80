"""Stages of a process: work that runs beside what was started later, and has a limited time to stop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

log = structlog.get_logger(__name__)

#: Seconds that each stage of stopping may take.
STOP_LIMIT = 5.0


@contextlib.asynccontextmanager
async def beside(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` beside the block; its failure is the block's, and it ends with the block."""
    owner = asyncio.current_task()
    assert owner is not None
    task = asyncio.create_task(work, name=name)

    def ended(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            log.error("stage.failed", stage=name, exc_info=done.exception())
            owner.cancel()

    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.remove_done_callback(ended)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=STOP_LIMIT)
        if not done:
            log.warning("stage.slow_to_stop", stage=name, limit_s=STOP_LIMIT)
        elif not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def within(name: str, work: Coroutine[Any, Any, None]) -> None:
    """Give a step of stopping its time, and no more."""
    try:
        async with asyncio.timeout(STOP_LIMIT):
            await work
    except TimeoutError:
        log.warning("stage.slow_to_stop", stage=name, limit_s=STOP_LIMIT)
