"""Interfaces that pacing requires from packages above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bot.pacing.snapshot import PaceSnapshot
from budget.windows.pace_admission import WindowState
from database.queries.agents.agents import AgentRow


class DrawPort(Protocol):
    """Resolver of the windows that an agent draws on."""

    async def draw(self, row: AgentRow, snapshot: PaceSnapshot) -> Sequence[WindowState]:
        """Return the windows that the agent's work draws on."""
