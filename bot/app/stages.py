"""Stages of a process: work that runs beside what was started later, and has a limited time to stop."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable

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


@dataclass(frozen=True, slots=True)
class Stage:
    """A part that is there from when it is started until all that was started after it has stopped."""

    name: str
    start: Callable[[], Awaitable[object]] | None = None
    """Done before what comes later is started."""
    run: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Goes on beside what comes later, and is cancelled in the end."""
    stop: Callable[[], Coroutine[Any, Any, None]] | None = None
    """Done in the end, if `start` was."""


@contextlib.asynccontextmanager
async def running(stages: Iterable[Stage]) -> AsyncIterator[None]:
    """Start these in their order. When the block ends, or one cannot be started, stop them the other way round."""
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
