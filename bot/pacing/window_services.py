"""Services available to the parts of pacing that read windows."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.approvals.services import ApprovalServices
from bot.commands.services import later
from bot.pacing.ports import DrawPort
from bot.pacing.service import PaceService


@dataclass(kw_only=True, slots=True)
class WindowServices(ApprovalServices):
    """Services for approvals, plus windows."""

    pace: PaceService = field(default_factory=later("pace"))
    """Windows and their even-spread lines."""
    assignment: DrawPort = field(default_factory=later("assignment"))
    """Resolver of the windows that an agent draws on."""
