"""Ctrl-C ends long work soon, and leaves no half of what must be whole."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from bot.maintenance.interruptible import in_thread, to_the_end


async def test_work_in_a_thread_ends_with_its_next_word() -> None:
    began, cancelled, ended = threading.Event(), threading.Event(), threading.Event()

    def work(tell: Callable[[str], None]) -> None:
        try:
            tell("it goes on")
            began.set()
            cancelled.wait(10)
            tell("it goes on still")
        except InterruptedError:
            ended.set()

    said: list[str] = []
    task = asyncio.create_task(in_thread(work, said.append))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    cancelled.set()
    assert await asyncio.to_thread(ended.wait, 10)
    assert said == ["it goes on"]


async def test_what_was_begun_comes_to_its_end() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        began.set()
        await go_on.wait()
        return "whole"

    task = asyncio.create_task(to_the_end(work()))
    await began.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    go_on.set()
    assert await task == "whole"
