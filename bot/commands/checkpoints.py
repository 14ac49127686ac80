"""Recorded steps of a run, so that a resumed run performs each of them once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.services import CommandServices
from bot.commands.syntax import written
from core.crash_points import declare
from database.queries.operations import command_runs

T = TypeVar("T")

STEP = declare("command.step")

_log = structlog.get_logger("commands")


class RecordedSteps:
    """The recorded steps of one run."""

    def __init__(
        self, services: CommandServices, run_id: str, progress: Callable[[str], Awaitable[None]], *, prefix: str
    ) -> None:
        self._services = services
        self._run_id = run_id
        self._progress = progress
        self._prefix = prefix

    async def once(self, step: str, act: Callable[[], Awaitable[T]]) -> T:
        async with self._services.store.read() as tx:
            done, before = await command_runs.step(tx, self._run_id, step)
        if done:
            return cast("T", before)
        result = _through_json(await act())
        async with self._services.store.write(STEP) as tx:
            await command_runs.add_step(tx, self._run_id, step, result, self._services.clock())
        return result

    async def commit(self, step: str, act: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def work(tx: AsyncConnection) -> T:
            done, before = await command_runs.step(tx, self._run_id, step)
            if done:
                return cast("T", before)
            result = _through_json(await act(tx))
            await command_runs.add_step(tx, self._run_id, step, result, self._services.clock())
            return result

        return await self._services.store.transact(STEP, work)

    async def progress(self, text: str) -> None:
        try:
            await self._progress(self._services.redact(written(text, self._prefix)))
        except Exception:
            _log.warning("command.progress_not_shown", run=self._run_id, exc_info=True)


def _through_json(result: T) -> T:
    """Return the result as a resumed run would read it, so that both get the same."""
    return cast("T", json.loads(json.dumps(result)))
