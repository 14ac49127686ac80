"""Gathers the dispatch queue."""

from __future__ import annotations

from typing import Final

from bot.read_models.tasks import TaskLine, TasksModel
from bot.tasks.step_services import TaskStepServices
from database.queries import tasks
from database.queries.tasks import Task

#: Maximum number of open tasks, and of ended ones.
_OPEN: Final = 200
_ENDED: Final = 50


async def load(services: TaskStepServices) -> TasksModel:
    """Return the tasks that have not ended, and the last that did.

    Raises:
        RegisterError: the register cannot be used.
    """
    async with services.store.read() as tx:
        found = await tasks.listing(tx, limit=_OPEN + 1)
        over = await tasks.last_ended(tx, limit=_ENDED)
        counts = await tasks.counts(tx)
    return TasksModel(
        open=tuple(_line(each) for each in found[:_OPEN]),
        ended=tuple(_line(each) for each in over),
        counts=dict(counts.by_state),
        more=len(found) > _OPEN,
    )


def _line(task: Task) -> TaskLine:
    return TaskLine(**{name: getattr(task, name) for name in TaskLine.__dataclass_fields__})
