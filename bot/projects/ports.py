"""What commands and chat need of the part that opens topics and keeps them within their bounds."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from database.queries.chat.topics import Topic


class NewRoom(Protocol):
    """Makes a chat room for a project (`bot.app.connectors.room_maker`)."""

    async def __call__(self, name: str, *, key: str, connector: str | None) -> str:
        """Make a room beside the fleet's, and invite the operators; once per `key`.

        Args:
            name: what it is called.
            key: identifies the request, in letters and digits.
            connector: where; None for the first connector that can make rooms.

        Returns:
            The room as ``CONNECTOR:ROOM``.

        Raises:
            UserError: it cannot be made; the message says what to do.
        """


class HearRoom(Protocol):
    """Lets a connector hear a room from now on (`bot.app.connectors.room_hearer`)."""

    async def __call__(self, room: str) -> None:
        """Hear what is said in a room (``CONNECTOR:ROOM``), in which topics are to be opened.

        Raises:
            UserError: it cannot be heard, or has no threads; the message says what to do.
        """


class TopicsPort(Protocol):
    """Opens, wakes and ends topics (`bot.projects.service.Topics`)."""

    async def run(self) -> None:
        """Keep all topics going, until cancelled."""

    def wake(self) -> None:
        """Look for topics that can begin now."""

    def heard(self) -> None:
        """Look soon after news of an agent, if a topic waits for an agent to end."""

    async def woken(self, tx: AsyncConnection, topic: Topic) -> bool:
        """Let an idle topic wait for its agent to come back, in the transaction that queues words for the agent."""
