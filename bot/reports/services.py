"""What reports can call upon."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.commands.services import later
from bot.issue_runs.services import IssueServices
from bot.reports.poster import Reports


@dataclass(kw_only=True, slots=True)
class ReportServices(IssueServices):
    """What issues of a forge have, and reports: everything."""

    reports: Reports = field(default_factory=later("reports"))
    """What is posted at times."""
