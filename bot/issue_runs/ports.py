"""What the parts of issue runs need of each other."""

from __future__ import annotations

from typing import Protocol


class RoundsPort(Protocol):
    """Plays the rounds of issue runs (`bot.issue_runs.rounds.Rounds`)."""

    def wake(self) -> None:
        """Look soon for runs that can begin, and for rounds that are due."""

    def look_again(self, run_id: str) -> None:
        """Look again at the open order of a run: its agent signalled or ended, or a person decided."""

    async def destroy(self, run_id: str) -> bool:
        """End a run whose pull request was closed, and remove its agent; return whether it is done.

        Raises:
            RegisterError: the register cannot be used.
        """

    async def reopen(self, run_id: str) -> bool:
        """Let a destroyed run go on, whose pull request was reopened; return whether it is done.

        Raises:
            RegisterError: the register cannot be used.
        """


class IntakePort(Protocol):
    """Handles what the forge told (`bot.issue_runs.intake.Intake`)."""

    def wake(self) -> None:
        """Handle new events soon."""
