"""Let processes die at named places (core.crash_points), and let others go on from what they left.

`die_at` and `walk` fork this process: quick, and anything can be done there. They are for tests without an event loop.
`ended` and `started` start a new one, for tests with an event loop, and where a register is to be migrated for real:
what is done there must be importable by name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import structlog

from core import crash_points
from tests import forkserver

LIMIT_S = 60

#: What one process does, from what is in the folder until it is done.
Script: TypeAlias = "Callable[[Path], Coroutine[Any, Any, object]]"


def both(*steps: str) -> tuple[str, ...]:
    """The places before and after each step."""
    return tuple(f"{step}.{side}" for step in steps for side in ("before", "after"))


# --- forked processes ----------------------------------------------------------------------------------------------


def run(work: Callable[[], object], place: str | None = None) -> int:
    """Do `work` in a process that dies at `place`. Return its exit status: 0 if `work` came to its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LIMIT_S)
            crash_points.arm(place)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at(place: str, work: Callable[[], object]) -> None:
    """Do `work` in a process that is killed at `place`."""
    assert run(work, place) == -signal.SIGKILL, f"{place} was never passed"


def walk(work: Callable[[], object], places: Sequence[str]) -> None:
    """Do `work` in one process after the other: each dies at the next of `places`, and the last comes to its end."""
    for place in places:
        die_at(place, work)
    assert run(work) == 0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Work that is killed, and what holds at its end wherever that was."""

    #: At which places processes die, one after the other, in each case.
    walks: Sequence[Sequence[str]]
    script: Script
    #: What was there before the first process.
    set_up: Script | None = None
    #: Assert, from what is in the folder, that everything was done once.
    invariant: Script | None = None
    marks: tuple[pytest.MarkDecorator, ...] = ()

    def check(self, folder: Path, places: Sequence[str]) -> None:
        """Let processes die at these places in a new folder; then let one live, and look at what it left."""
        if self.set_up is not None:
            asyncio.run(self.set_up(folder))
        walk(lambda: asyncio.run(self.script(folder)), places)
        if self.invariant is not None:
            asyncio.run(self.invariant(folder))


def each(*places: str) -> tuple[tuple[str], ...]:
    """Cases in which one process dies, at one of the places."""
    return tuple((place,) for place in places)


# --- new processes -------------------------------------------------------------------------------------------------


def started(script: Callable[..., object], *arguments: Any, place: str | None = None) -> ForkServerProcess:
    """Start a process that runs `script` (a coroutine function, or another) and dies at `place`."""
    process = forkserver.process(_life, script, arguments, place)
    process.start()
    return process


async def ended(script: Callable[..., object], *arguments: Any, place: str | None = None) -> int | None:
    """Run `script` in a process until it ends or dies; its exit status."""
    return await joined(started(script, *arguments, place=place))


async def joined(process: ForkServerProcess) -> int | None:
    """Wait until a process ends or dies; its exit status."""
    try:
        await asyncio.to_thread(process.join, LIMIT_S)
        return process.exitcode
    finally:
        process.kill()


def _life(script: Callable[..., object], arguments: Sequence[Any], place: str | None) -> None:
    crash_points.arm(place)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if asyncio.iscoroutine(doing := script(*arguments)):
        asyncio.run(doing)
