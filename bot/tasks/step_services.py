"""Services available to code that takes steps of tasks."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.commands.services import later
from bot.pacing.services import PacingServices
from bot.tasks.state_machine import TaskSteps


@dataclass(kw_only=True, slots=True)
class TaskStepServices(PacingServices):
    """Services for pacing, plus the steps of tasks."""

    task_steps: TaskSteps = field(default_factory=later("task_steps"))
    """Lifecycle of tasks that agents have."""
