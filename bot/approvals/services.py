"""Services available to approvals and questions."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.approvals.questions import Questions
from bot.commands.services import later
from bot.egress_client.services import EgressServices


@dataclass(kw_only=True, slots=True)
class ApprovalServices(EgressServices):
    """The egress client's services, and questions."""

    questions: Questions = field(default_factory=later("questions"))
    """Questions to operators other than permission requests."""
