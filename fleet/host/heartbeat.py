"""The heartbeat: whether the runtime's loop answers, and how the true runtime behind an adapter does."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from fleet.host.background_tasks import BackgroundTasks
from fleet.host.journal_fanout import JournalFanout
from fleet.host.runtime_lifetime import RuntimeLife
from fleet.host.runtime_process import reap_orphans

#: A runtime that does not answer in so many seconds is told to be silent, also between two heartbeats.
_PATIENCE_S: Final = 5.0


class Heartbeat:
    def __init__(self, chronicle: JournalFanout, tasks: BackgroundTasks) -> None:
        self._chronicle = chronicle
        self._tasks = tasks
        self.pinged_at: float | None = None
        """When the loop answered last, in epoch seconds."""
        self.ping_ms: float | None = None
        """How long it took then."""
        self.unanswered_since: float | None = None
        """When it was asked what it has not answered for some seconds, in epoch seconds; None: it answers."""
        self.child: str | None = None
        """What became of the adapter's child (`RuntimeProcess.child_state`)."""

    async def run(self, life: RuntimeLife) -> None:
        """Ask the runtime's loop, and give a status at each interval whether it answered or not."""
        process = life.process
        assert process is not None
        interval = self._chronicle.spec.heartbeat_s
        asked: asyncio.Task[None] | None = None
        asked_at = 0.0
        while True:
            if asked is None or asked.done():
                asked_at = self._chronicle.clock()
                asked = asyncio.create_task(self._ping(life), name="ping")
                self._tasks.hold(asked)
            began = asyncio.get_running_loop().time()
            await asyncio.wait({asked}, timeout=min(interval, _PATIENCE_S))
            self.unanswered_since = None if asked.done() else asked_at
            self.child = await asyncio.to_thread(process.child_state)
            reap_orphans(except_pid=process.pid)
            self._chronicle.beat()
            await asyncio.sleep(max(0.0, interval - (asyncio.get_running_loop().time() - began)))

    async def _ping(self, life: RuntimeLife) -> None:
        began = time.monotonic()
        try:
            await life.ping()
        except ConnectionError:
            return
        self.ping_ms = round((time.monotonic() - began) * 1000, 2)
        self.pinged_at = self._chronicle.clock()
        if self.unanswered_since is not None:
            self.unanswered_since = None
            self._chronicle.beat()
