"""What asks people can call upon."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.commands.services import later
from bot.egress_client.services import EgressServices

if TYPE_CHECKING:
    from bot.approvals.questions import Questions


@dataclass(kw_only=True, slots=True)
class ApprovalServices(EgressServices):
    """What the egress has, and questions."""

    questions: Questions = field(default_factory=later("questions"))
    """What is asked of operators besides approvals."""
