"""Services available to pacing."""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.commands.services import later
from bot.pacing.auto_resume import AutoResume
from bot.pacing.runaway_guard import RunawayGuard
from bot.pacing.window_services import WindowServices


@dataclass(kw_only=True, slots=True)
class PacingServices(WindowServices):
    """Services for windows, plus continuation and the runaway guard."""

    continuing: AutoResume = field(default_factory=later("continuing"))
    """Continuation of agents that stopped at a limit."""
    runaway: RunawayGuard = field(default_factory=later("runaway"))
    """Guard that pauses agents that spend without a visible result."""
