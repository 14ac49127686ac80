"""The stages of a process: background work with a limited time to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

log = structlog.get_logger(__name__)

#: Seconds that each stage may take to stop.
STOP_LIMIT = 5.0


@contextlib.asynccontextmanager
async def beside(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` beside the block. Its failure cancels the block, and it is cancelled at the block's end."""
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
    """Run a step of the shutdown with a time limit."""
    try:
        async with asyncio.timeout(STOP_LIMIT):
            await work
    except TimeoutError:
        log.warning("stage.slow_to_stop", stage=name, limit_s=STOP_LIMIT)


@dataclass(frozen=True, slots=True)
class Stage:
    """A part that runs from its start until all later parts have stopped."""

    name: str
    start: Callable[[], Awaitable[object]] | None = None
    """Runs before later parts start."""
    run: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Runs beside later parts, and is cancelled at the end."""
    stop: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Runs at the end if `start` completed."""


@contextlib.asynccontextmanager
async def running(stages: Iterable[Stage]) -> AsyncIterator[None]:
    """Start the stages in order. At the end of the block, or if one cannot start, stop them in reverse order."""
    async with contextlib.AsyncExitStack() as started:
        for stage in stages:
            if stage.start is not None:
                await stage.start()
            if stage.stop is not None:
                started.push_async_callback(_stop, stage.name, stage.stop)
            if stage.run is not None:
                await started.enter_async_context(beside(stage.name, stage.run()))
        yield


async def _stop(name: str, stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await within(name, stop())
