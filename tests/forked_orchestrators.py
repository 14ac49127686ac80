"""`muster up`, forked from a process that has loaded it: a second of a core less for each life of a kill test."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NoReturn

from tests import forkserver
from tests.forked_hosts import become, run_program, take_streams

_PR_SET_PDEATHSIG = 1

forkserver.load("bot.interfaces.cli.main", "bot.app.orchestrator", "connectors.terminal.connector", __name__)


class ForkedOrchestrator:
    """What tests use of an `asyncio.subprocess.Process`."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self._ended: asyncio.Future[int] | None = None
        assert process.pid is not None
        self.pid: int = process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    async def wait(self) -> int:
        """Wait until it has ended; the exit status."""
        if self._ended is None:
            loop = asyncio.get_running_loop()
            self._ended = loop.create_future()
            loop.add_reader(self._process.sentinel, self._end, self._ended, loop)
        return await asyncio.shield(self._ended)

    def _end(self, ended: asyncio.Future[int], loop: asyncio.AbstractEventLoop) -> None:
        status = self._process.exitcode
        assert status is not None
        loop.remove_reader(self._process.sentinel)
        ended.set_result(status)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


def start(command: Sequence[str], variables: dict[str, str], folder: Path, log: Path) -> ForkedOrchestrator:
    """Start what this command line of `python -m bot` starts; it appends what it prints to `log`, and dies with us."""
    process = forkserver.process(_live, list(command), variables, str(folder), str(log))
    process.start()
    return ForkedOrchestrator(process)


def _live(command: list[str], variables: dict[str, str], folder: str, log: str) -> NoReturn:
    # The server dies with the test process, and this with the server.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.chdir(folder)
    printed = os.open(log, os.O_WRONLY | os.O_APPEND)
    take_streams(os.open(os.devnull, os.O_RDONLY), printed, printed)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    become(command, variables)
    run_program(_main)


def _main() -> int:
    from bot.interfaces.cli.entry import main

    main()
    return 0
