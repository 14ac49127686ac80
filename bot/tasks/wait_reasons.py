"""What a task that waits was found to need, kept in the step in which someone was told of it: so whoever asks later is
told the same, with whole commands. Pure."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

from budget.dispatch.next_task import TaskWait
from budget.windows.pace_admission import Leave

if TYPE_CHECKING:
    from database.queries.tasks import Task, TaskStep

#: What is true or false of a wait (`never`, `critical`).
_FLAGS: Final = tuple(each.name for each in fields(TaskWait) if each.default is False)


def decision_of(wait: TaskWait) -> dict[str, Any]:
    """Return what is kept of it (`Step.decision`)."""
    return {
        "look_at": wait.look_at,
        "why": wait.why,
        "leave": [asdict(each) for each in wait.leave],
        **{name: True for name in _FLAGS if getattr(wait, name)},
    }


def wait_of(task: Task, told: TaskStep | None) -> TaskWait | None:
    """Return why a task waits, as it is in its row and in what was told of it last; None: no one knows yet."""
    why: Any = task.why
    if task.state != "queued" or why is None:
        return None
    known = (told.decision or {}) if told is not None else {}
    if known.get("why") != why:
        # It waits for something else since; of that only its row speaks.
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
