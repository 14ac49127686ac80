"""Services available to tasks."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.commands.services import later
from bot.tasks.assignment import Handing
from bot.tasks.settlement import Settling
from bot.tasks.step_services import TaskStepServices


@dataclass(kw_only=True, slots=True)
class TaskServices(TaskStepServices):
    """Services for the steps of tasks, plus assignment and settlement."""

    assignment: Handing = field(default_factory=later("assignment"))
    """Assignment of tasks to agents."""
    settling: Settling = field(default_factory=later("settling"))
    """Settlement of ended tasks."""
