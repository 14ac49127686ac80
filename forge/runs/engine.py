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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dbos import DBOS, DBOSConfig, Serializer, SetWorkflowID
from sqlalchemy import Engine

from forge.runs.round import RoundStep, play_round

#: The format of the workflow. A release that orders other steps, or in another order, adds a workflow of another name.
FORMAT: Final = "rounds-1"
#: DBOS' tables on PostgreSQL.
SCHEMA: Final = "muster_dbos"
_EXECUTOR: Final = "muster"
_QUEUE: Final = "rounds"
#: Seconds between looks for rounds that were queued.
_POLLING: Final = 2.0

#: Place the order of a step of a round, and return its outcome.
PlaceStep = Callable[[str, int, RoundStep], Awaitable[str]]


class _Json(Serializer):
    """DBOS' default is pickle, which runs whatever stands in the file."""

    def name(self) -> str:
        return "muster_json"

    def serialize(self, data: Any) -> str:
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:
        return json.loads(serialized_data)


@dataclass(slots=True)
class RoundEngine:
    """The workflows of this process. DBOS is one for a process, and so is this: stop one before the next starts."""

    place: PlaceStep
    file: Path
    """DBOS' database, beside a register that is a file."""
    server: Engine | None = None
    """The register's server; then DBOS' tables are in a schema there."""

    async def start(self) -> None:
        """Launch DBOS on this event loop. It goes on with the rounds that have not ended."""
        global _place
        _place = self.place
        config: DBOSConfig = {
            "name": "muster",
            "executor_id": _EXECUTOR,
            "application_version": FORMAT,
            "serializer": _Json(),
            "log_level": "ERROR",
            "max_executor_threads": 8,
            "scheduler_polling_interval_sec": 3600.0,
        }
        if self.server is None:
            # DBOS would make it readable for everybody. What SQLite keeps beside it gets the same mode.
            os.close(os.open(self.file, os.O_CREAT | os.O_RDWR, 0o600))
            config["system_database_url"] = f"sqlite:///{self.file}"
        else:
            config |= {"system_database_engine": self.server, "dbos_system_schema": SCHEMA, "use_listen_notify": False}
        DBOS(config=config)
        DBOS.launch()
        await DBOS.register_queue_async(_QUEUE, polling_interval_sec=_POLLING)

    async def begin(self, run: str, number: int) -> None:
        """Begin a round, unless it has begun."""
        with SetWorkflowID(f"{run}/{number}"):
            await DBOS.enqueue_workflow_async(_QUEUE, _round, run, number)

    async def stop(self) -> None:
        """End DBOS. Its rounds go on when it is launched again."""
        global _place
        _place = None
        await asyncio.to_thread(DBOS.destroy)


_place: PlaceStep | None = None


@DBOS.step(name="order")
async def _step(run: str, number: int, step: str) -> str:
    if _place is None:
        # This process does not lead any more. Whoever does goes on with the round.
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing ends this wait")
    return await _place(run, number, RoundStep(step))


@DBOS.workflow(name="round-1", max_recovery_attempts=None)
async def _round(run: str, number: int) -> str:
    async def order(step: RoundStep) -> str:
        return await _step(run, number, step.value)

    return await play_round(order)
