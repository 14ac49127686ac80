"""Services available to tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.commands.services import later
from bot.pacing.services import PacingServices

if TYPE_CHECKING:
    from bot.tasks.assignment import Handing
    from bot.tasks.settlement import Settling
    from bot.tasks.state_machine import TaskSteps


@dataclass(kw_only=True, slots=True)
class TaskServices(PacingServices):
    """Services for pacing, plus tasks."""

    assignment: Handing = field(default_factory=later("assignment"))
    """Assignment of tasks to agents."""
    settling: Settling = field(default_factory=later("settling"))
    """Settlement of ended tasks."""
    task_steps: TaskSteps = field(default_factory=later("task_steps"))
    """Lifecycle of tasks that agents have."""
