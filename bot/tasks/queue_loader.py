"""Gathers what waits and what works: the dispatch queue, and runs beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Final

from bot.config.schema import Settings
from bot.pacing import run_queue
from bot.read_models.tasks import TaskLine, TasksModel
from bot.tasks.state_machine import weighed
from bot.tasks.step_services import TaskStepServices
from database.queries import tasks
from database.queries.spending import usage_queries
from database.queries.spending.usage_queries import Sums
from database.queries.task_states import LIVE
from database.queries.tasks import Task

#: Maximum number of open tasks.
_OPEN: Final = 200
#: Maximum number of ended ones in a document.
_ENDED: Final = 50
_COLUMNS: Final = tuple(each.name for each in fields(TaskLine) if each.name in Task.__dataclass_fields__)


async def load(
    services: TaskStepServices, *, ended_since: float = 0.0, most_ended: int = _ENDED, runs: bool = True
) -> TasksModel:
    """Return the tasks and runs that have not ended, and the last that did.

    Args:
        services: the services.
        ended_since: leave out what ended before, in seconds since the epoch.
        most_ended: the maximum number of ended tasks, and of ended runs.
        runs: whether to include runs.

    Raises:
        RegisterError: the register cannot be used.
    """
    async with services.store.read() as tx:
        found = await tasks.listing(tx, limit=_OPEN + 1)
        over = await tasks.last_ended(tx, since=ended_since, limit=most_ended) if most_ended else []
        counts = await tasks.counts(tx)
        used = await usage_queries.by_task(tx, [task.id for task in found if task.state in LIVE])
        of_runs = await run_queue.load(services.settings, tx, services.clock()) if runs else []
        runs_over = await run_queue.ended(tx, since=ended_since, limit=most_ended) if runs and most_ended else []
    lines = [line_of(each, used.get(each.id), services.settings) for each in found[:_OPEN]]
    ended = [*map(line_of, over), *runs_over]
    return TasksModel(
        open=(*lines, *of_runs[:_OPEN]),
        ended=tuple(sorted(ended, key=lambda line: line.ended_at or 0.0, reverse=True)),
        counts=dict(Counter(counts.by_state) + Counter(line.state for line in of_runs)),
        more=len(found) > _OPEN or len(of_runs) > _OPEN,
    )


def line_of(task: Task, used: Sums | None = None, settings: Settings | None = None) -> TaskLine:
    """Return one task; `used` is what it used so far, which `settings` weigh."""
    values = {name: getattr(task, name) for name in _COLUMNS}
    if used is not None and settings is not None and task.state in LIVE:
        tokens, usd = weighed(settings, used)
        values |= {"used_tokens": tokens, "used_usd": usd}
    return TaskLine(**values)
