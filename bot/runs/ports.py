"""What commands and agents' journals need of the part that carries runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.context import Context
from bot.commands.registry import Reply
from database.queries.agents.agents import AgentRow
from database.queries.agents.runs import AgentRun, RunEnding
from database.queries.forge.issue_runs import IssueRun


class RunsPort(Protocol):
    """Begins and ends runs (`bot.runs.service.Runs`)."""

    on_ended: list[Callable[[AgentRun], None]]
    """Called with each run that ended, after the commit. A crash may prevent the call."""

    async def run(self) -> None:
        """Keep all runs going, until cancelled."""

    def wake(self) -> None:
        """Look for runs that begin or end now."""

    def heard(self) -> None:
        """Look soon after news of an agent, if there are runs."""

    async def decide(self, tx: AsyncConnection, run: AgentRun, ending: RunEnding, detail: str | None) -> bool:
        """Record how a run ends, and cancel its turn, in the transaction of the decision; False if it is known."""

    def after(self, run: AgentRun) -> None:
        """Act on such a decision after its commit."""

    async def receipt(self, tx: AsyncConnection, row: AgentRow, message: str, state: str, detail: str | None) -> None:
        """Take up the new state of a message, in the transaction that records it."""


class RunOwner(Protocol):
    """Repeats and begins runs of issues."""

    async def retry(self, ctx: Context[Any], wanted: str) -> Reply | None:
        """Repeat what `wanted` names; None if it is none of these."""

    async def begin(self, tx: AsyncConnection, run: IssueRun) -> bool:
        """Begin the next round of a run, however many go on; False if it does not wait. `wake` follows the commit."""

    def wake(self) -> None:
        """Act on what was begun."""
