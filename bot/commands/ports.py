"""What commands want of the subjects above them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from database.queries.agents.agents import AgentRow


class OwnedPort(Protocol):
    """Who knows which agents are this installation's own."""

    def make_sure_it_is_ours(self, row: AgentRow) -> None:
        """Raises `AgentElsewhere` for an agent of another installation."""
