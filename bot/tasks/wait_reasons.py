"""Reasons for the wait of a task, stored in the step that announced it. Pure.

Later requests get the same answer from it, with complete commands.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, Final

from budget.dispatch.next_task import TaskWait
from budget.windows.pace_admission import Leave
from database.queries.tasks import Task, TaskStep

#: Names of the fields of a wait that are true or false (`never`, `critical`).
_FLAGS: Final = tuple(each.name for each in fields(TaskWait) if each.default is False)


def decision_of(wait: TaskWait) -> dict[str, Any]:
    """Return the stored form of a wait (`Step.decision`)."""
    return {
        "look_at": wait.look_at,
        "why": wait.why,
        "leave": [asdict(each) for each in wait.leave],
        **{name: True for name in _FLAGS if getattr(wait, name)},
    }


def wait_of(task: Task, told: TaskStep | None) -> TaskWait | None:
    """Return why a task waits, from its row and its last announcement, or None if that is not known yet."""
    why: Any = task.why
    if task.state != "queued" or why is None:
        return None
    known = (told.decision or {}) if told is not None else {}
    if known.get("why") != why:
        # The task now waits for something else, which only its row describes.
        known = {}
    flags: dict[str, Any] = {name: True for name in _FLAGS if known.get(name)}
    return TaskWait(
        task=task.id,
        why=why,
        text=task.reason or "",
        look_at=task.look_at,
        leave=tuple(Leave(**each) for each in known.get("leave", ())),
        **flags,
    )
