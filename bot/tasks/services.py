"""Services available to tasks."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.commands.services import later
from bot.tasks.assignment import TaskAssignment
from bot.tasks.settlement import TaskSettlement
from bot.tasks.step_services import TaskStepServices


@dataclass(kw_only=True, slots=True)
class TaskServices(TaskStepServices):
    """Services for the steps of tasks, plus assignment and settlement."""

    assignment: TaskAssignment = field(default_factory=later("assignment"))
    """Assignment of tasks to agents."""
    settling: TaskSettlement = field(default_factory=later("settling"))
    """Settlement of ended tasks."""
