"""Services available to code about runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.agents.services import AgentServices
from bot.commands.services import later
from bot.runs.ports import RunOwner, RunsPort


@dataclass(kw_only=True, slots=True)
class RunServices(AgentServices):
    """The services of agents, and runs."""

    runs: RunsPort = field(default_factory=later("runs"))
    """Begins and ends runs."""
    run_owner: RunOwner | None = None
    """Repeats runs of issues; None without a forge."""
