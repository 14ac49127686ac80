"""Interfaces that the supervision of agents requires from fleet/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from database.queries.agents.agents import AgentRow
from database.queries.chat import approvals
from fleet.workspace import Collected


class CommitSource(Protocol):
    """A source of commits: the agents' workspaces."""

    def collect(self, name: str) -> Collected | None:
        """Fetch the agent's commits. The result is the same until it is acknowledged.

        Raises:
            FleetError: the commits cannot be fetched; the message is for the operator.
        """

    def acknowledge(self, name: str, collected: Collected) -> None: ...


class Starter(Protocol):
    """Starts agent hosts; `fleet.launch.host_spec_builder` builds their launch specs."""

    async def start(
        self, row: AgentRow, *, floor: int, grants: Sequence[approvals.Grant], withdrawn: Sequence[str]
    ) -> None:
        """Start the agent host of `row`, and return when it answers.

        Raises:
            FleetError: the host cannot be started; the message is for the operator.
        """

    def folder(self, name: str) -> Path: ...

    def socket(self, name: str) -> Path: ...

    @property
    def workspaces(self) -> CommitSource: ...

    def discard_workspace(self, workspace: Path, name: str) -> bool: ...
