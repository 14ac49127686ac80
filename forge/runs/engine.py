"""Rounds as workflows of DBOS, which goes on with them after a crash. Importing this module imports DBOS.

DBOS recovers as soon as it is launched and writes past our fence, and a second process with the same executor repeats a
step. So it is launched only by who leads, its steps only place orders, and an order that was placed twice is done once.
Its executor and its application version are constant: a round that another process or the previous release began goes
on here.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dbos import DBOS, DBOSConfig, Serializer, SetWorkflowID

from forge.runs.round import RoundStep, play_round

#: The format of the workflow. A release that orders other steps, or in another order, adds a workflow of another name.
FORMAT: Final = "rounds-1"
_EXECUTOR: Final = "muster"
_QUEUE: Final = "rounds"
#: Seconds between looks for rounds that were queued.
_POLLING: Final = 2.0

#: Place the order of a step of a round, and return its outcome.
PlaceStep = Callable[[str, int, RoundStep], Coroutine[Any, Any, str]]


class _Json(Serializer):
    """Replaces DBOS' default, pickle, which would run code from the file."""

    def name(self) -> str:
        return "muster_json"

    def serialize(self, data: Any) -> str:
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)


@dataclass(slots=True)
class RoundEngine:
    """The workflows of this process. DBOS is one for a process, and so is this: stop one before the next starts.

    DBOS takes over the threads of the event loop that it runs on, and ends them. So it gets a loop of its own in a
    thread of its own, and orders are placed on the loop that started this.
    """

    place: PlaceStep
    file: Path
    """DBOS' database."""
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None

    async def start(self) -> None:
        """Launch DBOS. It goes on with the rounds that have not ended."""
        global _placing
        _placing = (self.place, asyncio.get_running_loop())
        self._loop = loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="rounds", daemon=True)
        self._thread.start()
        await self._apart(_launch(self.file))

    async def begin(self, run: str, number: int) -> None:
        """Begin a round, unless it has begun."""
        await self._apart(_enqueue(run, number))

    async def stop(self) -> None:
        """End DBOS. Its rounds go on when it is launched again."""
        global _placing
        _placing = None
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        await asyncio.to_thread(DBOS.destroy)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_ended(), loop))
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()

    async def _apart(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None, "it is not started"
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


async def _launch(file: Path) -> None:
    # DBOS would make it readable for everybody. What SQLite keeps beside it gets the same mode.
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    config: DBOSConfig = {
        "name": "muster",
        "executor_id": _EXECUTOR,
        "application_version": FORMAT,
        "serializer": _Json(),
        "log_level": "ERROR",
        "max_executor_threads": 8,
        "scheduler_polling_interval_sec": 3600.0,
        "system_database_url": f"sqlite:///{file}",
    }
    DBOS(config=config)
    DBOS.launch()
    await DBOS.register_queue_async(_QUEUE, polling_interval_sec=_POLLING)


async def _enqueue(run: str, number: int) -> None:
    with SetWorkflowID(f"{run}/{number}"):
        await DBOS.enqueue_workflow_async(_QUEUE, _round, run, number)


async def _ended() -> None:
    """End what still waits on this loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


_placing: tuple[PlaceStep, asyncio.AbstractEventLoop] | None = None


@DBOS.step(name="order")
async def _step(run: str, number: int, step: str) -> str:
    if _placing is None:
        # This process does not lead any more. The leader goes on with the round.
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing ends this wait")
    place, loop = _placing
    placed = asyncio.run_coroutine_threadsafe(place(run, number, RoundStep(step)), loop)
    return await asyncio.wrap_future(placed)


@DBOS.workflow(name="round-1", max_recovery_attempts=None)
async def _round(run: str, number: int) -> str:
    async def order(step: RoundStep) -> str:
        return await _step(run, number, step.value)

    return await play_round(order)
