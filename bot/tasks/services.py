"""What has to do with tasks can call upon."""

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
    """What pacing has, and tasks."""

    assignment: Handing = field(default_factory=later("assignment"))
    """Gives tasks to agents."""
    settling: Settling = field(default_factory=later("settling"))
    """Counts and tells what ended tasks came to."""
    task_steps: TaskSteps = field(default_factory=later("task_steps"))
    """What becomes of tasks that agents have."""
