"""What reports can call upon."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.agents.services import AgentServices
from bot.commands.services import later
from bot.reports.poster import Reports


@dataclass(kw_only=True, slots=True)
class ReportServices(AgentServices):
    """What agents have, and reports: everything."""

    reports: Reports = field(default_factory=later("reports"))
    """What is posted at times."""
