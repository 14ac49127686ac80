"""What the parts of issue runs need of each other."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from database.queries.forge.issue_runs import IssueRun


class RoundsPort(Protocol):
    """Plays the rounds of issue runs (`bot.issue_runs.rounds.service.Rounds`)."""

    def wake(self) -> None:
        """Look soon for runs that can begin, and for rounds that are due."""

    def look_again(self, run_id: str) -> None:
        """Look again at the open order of a run: its agent signalled or ended, or a person decided."""

    async def begin(self, tx: AsyncConnection, run: IssueRun, *, most: int | None) -> bool:
        """Begin the next round of a run, in one transaction. `wake` follows the commit.

        False if there is no reason to go on, or `most` places are taken. None: any number may be.
        """

    async def destroy(self, run_id: str) -> None:
        """Order that what is left of a run is tidied up: its pull request was merged or closed.

        Return when the order is durable. It may be called again until the run is destroyed.
        """

    async def reopen(self, run_id: str) -> None:
        """Order that a destroyed run goes on: its pull request was reopened.

        Return when the order is durable. It may be called again until the run is destroyed no more.
        """


class IntakePort(Protocol):
    """Handles what the forge told (`bot.issue_runs.intake.service.Intake`)."""

    def wake(self) -> None:
        """Handle new events soon."""


class OrdersPort(Protocol):
    """The open orders of runs (`forge.runs.order_book.OrderBook`)."""

    def wake(self, key: str) -> None:
        """Have an order acted on soon."""
