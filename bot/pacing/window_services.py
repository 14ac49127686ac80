"""Services available to the parts of pacing that read windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bot.approvals.services import ApprovalServices
from bot.commands.services import later
from bot.pacing.service import PaceService
from bot.pacing.window_status import PaceSnapshot
from budget.windows.pace_admission import WindowState
from database.queries.agents.agents import AgentRow


class DrawPort(Protocol):
    """Resolver of the windows that an agent draws on."""

    async def draw(self, row: AgentRow, snapshot: PaceSnapshot) -> Sequence[WindowState]:
        """Return the windows that the agent's work draws on."""


@dataclass(kw_only=True, slots=True)
class WindowServices(ApprovalServices):
    """Services for approvals, plus windows."""

    pace: PaceService = field(default_factory=later("pace"))
    """Windows and their even-spread lines."""
    assignment: DrawPort = field(default_factory=later("assignment"))
    """Resolver of the windows that an agent draws on."""
