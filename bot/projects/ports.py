"""What commands and chat need of the part that opens topics and keeps them within their bounds."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from database.queries.chat.topics import Topic


class TopicsPort(Protocol):
    """Opens, wakes and ends topics (`bot.projects.service.Topics`)."""

    async def run(self) -> None:
        """Keep all topics going, until cancelled."""

    def wake(self) -> None:
        """Look for topics that can begin now."""

    async def woken(self, tx: AsyncConnection, topic: Topic) -> bool:
        """Let an idle topic wait for its agent to come back, in the transaction that queues words for the agent."""
