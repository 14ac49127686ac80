"""What the egress's client wants of the subjects above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from database.queries.agents.agents import AgentRow
    from egress.ledger.model import Action, LedgerEntry
    from egress.settings import PaceSettings


class WindowPort(Protocol):
    """Who draws the lines of windows."""

    def used(self) -> None:
        """Something was used, and is in the register."""

    async def paces(self) -> Sequence[PaceSettings]:
        """Return what the egress holds agents to between one look and the next."""


class LimitListener(Protocol):
    """Who sees to agents that stopped at a limit."""

    async def met_provider(self, tx: AsyncConnection, entries: Sequence[LedgerEntry]) -> None:
        """Of these requests some may have met a provider's limit."""

    async def met_limit(self, tx: AsyncConnection, row: AgentRow, key: str, action: Action) -> None:
        """The egress turned an agent away at a limit of ours."""
