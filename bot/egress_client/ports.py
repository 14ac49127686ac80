"""The ports through which the egress client calls subjects above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.services import later
from bot.messaging.services import MessagingServices
from database.queries.agents.agents import AgentRow
from egress.ledger.model import Action, LedgerEntry
from egress.settings import PaceSettings


class WindowPort(Protocol):
    """The pacing of windows."""

    def used(self) -> None:
        """Signal that new usage is in the register."""

    async def paces(self) -> Sequence[PaceSettings]:
        """Return the paces for the egress to enforce until the next call."""


class LimitListener(Protocol):
    """The component that resumes agents that stopped at a limit."""

    async def met_provider(self, tx: AsyncConnection, entries: Sequence[LedgerEntry]) -> None:
        """Process requests, some of which may have met a provider's limit."""

    async def met_limit(self, tx: AsyncConnection, row: AgentRow, key: str, action: Action) -> None:
        """Process the refusal of an agent's request at one of Muster's limits."""


@dataclass(kw_only=True, slots=True)
class LimitServices(MessagingServices):
    """The messaging services, and what the egress client calls above it."""

    pace: WindowPort = field(default_factory=later("pace"))
    """Windows and their pace lines."""
    continuing: LimitListener = field(default_factory=later("continuing"))
    """Resumes agents that stopped at a limit."""
