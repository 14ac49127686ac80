"""Interfaces that commands require from packages above them."""

from __future__ import annotations

from typing import Protocol

from database.queries.agents.agents import AgentRow


class OwnedPort(Protocol):
    """Registry of the agents that belong to this installation."""

    def make_sure_it_is_ours(self, row: AgentRow) -> None:
        """Raise `AgentElsewhere` for an agent of another installation."""

    def is_ours(self, row: AgentRow) -> bool: ...
